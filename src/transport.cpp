#include "transport.h"

namespace convoy {

std::vector<std::unique_ptr<Communicator>> cuda_communicators(const Cuda&, const std::string&, int) {
  throw Error("not yet");
}

std::unique_ptr<Communicator> cuda_communicator(const Cuda&, const std::string&,
                                                std::unique_ptr<Communicator>, const MpiProcess&) {
  throw Error("not yet");
}

}  // namespace convoy
