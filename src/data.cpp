#include "convoy/data.h"

#include "data_readers.h"

namespace convoy {

DataSets load_data(const DataOptions& options) {
  const std::string& name = options.name;
  if (name == "shapes") return load_shapes(options);
  if (name.rfind("synthetic:", 0) == 0) return load_synthetic(options);
  if (name == "mnist" || name == "cifar10" || name == "cifar100") {
    DataOptions with_dir = options;
    if (with_dir.dir.empty()) with_dir.dir = "data/" + name;
    if (!is_folder(with_dir.dir))
      input_error("--data ", name, ": no folder ", with_dir.dir, "; jobs/download_data.sh ", name,
                  " fetches the files, --data-dir says where they are");
    return name == "mnist" ? load_mnist(with_dir) : load_cifar(with_dir);
  }
  if (!is_folder(name))
    input_error("--data ", name,
                ": neither a folder nor one of shapes, mnist, cifar10, cifar100, synthetic:HxWxC:classes");
  return load_folder(options);
}

}  // namespace convoy
