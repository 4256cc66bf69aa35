#include <gtest/gtest.h>

#include <limits>

#include "convoy/check.h"

namespace convoy {
namespace {

template <class Thrown, class F>
std::string message(F f) {
  try {
    f();
  } catch (const Thrown& e) {
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(Check, NamesPlaceConditionAndValues) {
  const int rows = 3;
  const std::string text = message<Error>([&] { CONVOY_CHECK(rows == 4, "rows ", rows, " of ", 4.5); });
  EXPECT_NE(text.find("test_check.cpp:"), std::string::npos) << text;
  EXPECT_NE(text.find("rows == 4"), std::string::npos) << text;
  EXPECT_NE(text.find("rows 3 of 4.5"), std::string::npos) << text;
}
TEST(Check, ValuesAreNotBuiltWhenItHolds) {
  int built = 0;
  const auto value = [&] { return ++built; };
  CONVOY_CHECK(built == 0, value());
  EXPECT_EQ(built, 0);
}
TEST(Check, FailureIsNotAnInputError) {
  EXPECT_THROW(
      {
        try {
          CONVOY_CHECK(false, "x");
        } catch (const InputError&) {
        }
      },
      Error);
}

TEST(InputError, IsItsText) {
  EXPECT_EQ(message<InputError>([] { input_error("file.net:", 3, ": no such layer"); }),
            "file.net:3: no such layer");
  EXPECT_THROW(input_error("also an Error"), Error);
}

TEST(CheckedArithmetic, ResultsAndOverflow) {
  const int64_t most = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(checked_product(1 << 20, 1 << 20, "extent"), int64_t{1} << 40);
  EXPECT_EQ(checked_product(most, 1, "extent"), most);
  EXPECT_EQ(checked_sum(most - 1, 1, "offset"), most);
  EXPECT_NE(message<InputError>([&] {
              checked_product(4194305, 211106198978564, "extent of w");
            }).find("extent of w"),
            std::string::npos);
  EXPECT_THROW(checked_product(most, 2, "x"), InputError);
  EXPECT_THROW(checked_sum(most, 1, "x"), InputError);
  EXPECT_THROW(checked_sum(std::numeric_limits<int64_t>::min(), -1, "x"), InputError);
}

}  // namespace
}  // namespace convoy
