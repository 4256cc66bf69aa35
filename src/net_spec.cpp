#include <type_traits>

#include "net_line.h"

namespace convoy {
namespace {

int64_t count(const NetLine& line, const char* what) {
  const Word& word = line.positional(0);
  const int64_t value = whole_number(word.text, kMaxExtent);
  if (value < 1)
    line.fail(word, what, " must be a whole number from 1 to ", kMaxExtent, ", not ", quoted(word.text));
  return value;
}

// "3" (both ways) or "3x5".
void pair(const NetLine& line, const Word& word, const char* what, int64_t least, int64_t& first,
          int64_t& second) {
  const size_t cross = word.text.find('x');
  first = whole_number(word.text.substr(0, cross), kMaxExtent);
  second = cross == std::string::npos ? first : whole_number(word.text.substr(cross + 1), kMaxExtent);
  if (first < least || second < least)
    line.fail(word, what, " must be N or NxM with whole numbers from ", least, " to ", kMaxExtent, ", not ",
              quoted(word.text));
}

template <class Spec>
void window(const NetLine& line, const Word& size, Spec& spec) {
  constexpr bool conv = std::is_same_v<Spec, Conv>;
  const char* what = std::is_same_v<Spec, AveragePool> ? "the window, unless it is global," : "the window";
  pair(line, size, what, 1, spec.r, spec.s);
  spec.stride_h = conv ? 1 : spec.r;  // as in PyTorch: pooling windows touch unless told otherwise
  spec.stride_w = conv ? 1 : spec.s;
  if (const Word* stride = line.keyword("stride"))
    pair(line, *stride, "stride", 1, spec.stride_h, spec.stride_w);
  if (const Word* pad = line.keyword("pad")) pair(line, *pad, "pad", 0, spec.pad_h, spec.pad_w);
}

// Sets `value` when the word is there. `good` says what is allowed in code, `allowed` in words.
template <class Good>
void decimal(const NetLine& line, const Word* word, const char* what, const char* allowed, Good good,
             float& value) {
  if (word != nullptr && (!decimal_number(word->text, value) || !good(value)))
    line.fail(*word, what, " must be a number ", allowed, ", not ", quoted(word->text));
}

bool positive(float v) {
  return v > 0;
}
bool not_negative(float v) {
  return v >= 0;
}

Input read_input(const NetLine& line) {
  const Word& word = line.positional(0);
  const size_t one = word.text.find('x');
  const size_t two = one == std::string::npos ? one : word.text.find('x', one + 1);
  Input input;
  if (two != std::string::npos) {
    input.h = whole_number(word.text.substr(0, one), kMaxExtent);
    input.w = whole_number(word.text.substr(one + 1, two - one - 1), kMaxExtent);
    input.c = whole_number(word.text.substr(two + 1), kMaxExtent);
  }
  if (input.h < 1 || input.w < 1 || input.c < 1)
    line.fail(word, "the input must be HxWxC with whole numbers from 1 to ", kMaxExtent,
              ", such as 32x32x3, not ", quoted(word.text));
  return input;
}

Conv read_conv(const NetLine& line) {
  Conv conv;
  conv.filters = count(line, "the number of filters");
  conv.bias = !line.flag("nobias");
  window(line, line.positional(1), conv);
  return conv;
}

MaxPool read_max_pool(const NetLine& line) {
  MaxPool pool;
  window(line, line.positional(0), pool);
  return pool;
}

AveragePool read_average_pool(const NetLine& line) {
  AveragePool pool;
  pool.global = line.positional(0).text == "global";
  if (!pool.global) {
    window(line, line.positional(0), pool);
    return pool;
  }
  for (const char* name : {"stride", "pad"})
    if (const Word* word = line.keyword(name))
      line.fail(*word, "avgpool global has no ", name, ": its window is the whole image");
  return pool;
}

Dropout read_dropout(const NetLine& line) {
  Dropout dropout;
  decimal(
      line, &line.positional(0), "the probability of dropout", "that is at least 0 and less than 1",
      [](float v) { return v >= 0 && v < 1; }, dropout.p);
  return dropout;
}

BatchNorm read_batchnorm(const NetLine& line) {
  BatchNorm bn;
  decimal(line, line.keyword("eps"), "eps", "greater than 0", positive, bn.eps);
  decimal(
      line, line.keyword("momentum"), "momentum", "from 0 to 1", [](float v) { return v >= 0 && v <= 1; },
      bn.momentum);
  return bn;
}

Lrn read_lrn(const NetLine& line) {
  Lrn lrn;
  lrn.window = count(line, "the window");
  decimal(line, line.keyword("alpha"), "alpha", "that is at least 0", not_negative, lrn.alpha);
  decimal(line, line.keyword("beta"), "beta", "that is at least 0", not_negative, lrn.beta);
  decimal(line, line.keyword("k"), "k", "greater than 0", positive, lrn.k);
  return lrn;
}

}  // namespace

LayerSpec read_spec(const NetLine& line) {
  const std::string& kind = line.kind().text;
  if (kind == "input") return read_input(line);
  if (kind == "conv") return read_conv(line);
  if (kind == "fc") return Fc{count(line, "the number of outputs"), !line.flag("nobias")};
  if (kind == "maxpool") return read_max_pool(line);
  if (kind == "avgpool") return read_average_pool(line);
  if (kind == "relu") return Relu{};
  if (kind == "sigmoid") return Sigmoid{};
  if (kind == "tanh") return Tanh{};
  if (kind == "dropout") return read_dropout(line);
  if (kind == "bn") return read_batchnorm(line);
  if (kind == "lrn") return read_lrn(line);
  CONVOY_CHECK(kind == "add", kind);
  return Add{};
}

}  // namespace convoy
