#include "convoy/plan.h"

namespace convoy {

Plan make_plan(const Net& net, int64_t batch) {
  CONVOY_CHECK(batch >= 1, "batch ", batch);
  // An example's elements fit (parse_net checked them); rows times them times 4 bytes, for every layer, must
  // as well.
  int64_t elements = 0;
  for (const Shape& shape : output_shapes(net, 1))
    elements = checked_sum(elements, shape.count(), "the net's activations");
  checked_product(checked_product(elements, batch, "batch size x activations"), 16,
                  "the bytes of a batch's activations");
  return Plan{batch, batch};
}

}  // namespace convoy
