#include "net_text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <locale>
#include <sstream>

namespace convoy {
namespace {

bool blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

}  // namespace

std::vector<Word> split_words(const std::string& line) {
  std::vector<Word> words;
  size_t i = 0;
  while (i < line.size() && line[i] != '#') {
    if (blank(line[i])) {
      ++i;
      continue;
    }
    const size_t first = i;
    while (i < line.size() && line[i] != '#' && !blank(line[i])) {
      ++i;
      if (words.empty() && line[i - 1] == ':') break;
    }
    words.push_back({line.substr(first, i - first), static_cast<int>(first) + 1});
  }
  return words;
}

std::string quoted(const std::string& word) {
  static constexpr char kHex[] = "0123456789abcdef";
  constexpr size_t kShown = 40;
  std::string out = "'";
  for (size_t i = 0; i < std::min(word.size(), kShown); ++i) {
    const auto c = static_cast<unsigned char>(word[i]);
    if (c >= 0x20 && c < 0x7f) {
      out += word[i];
    } else {
      out += std::string("\\x") + kHex[c / 16] + kHex[c % 16];
    }
  }
  return out + (word.size() > kShown ? "...'" : "'");
}

int64_t whole_number(const std::string& word, int64_t limit) {
  if (word.empty()) return -1;
  int64_t value = 0;
  for (const char c : word) {
    if (c < '0' || c > '9') return -1;
    value = value * 10 + (c - '0');
    if (value > limit) return -1;
  }
  return value;
}

bool decimal_number(const std::string& word, float& value) {
  if (word.empty() || word.find_first_not_of("0123456789.eE+-") != std::string::npos) return false;
  std::istringstream in(word);
  in.imbue(std::locale::classic());
  double wide = 0;
  if (!(in >> wide) || in.peek() != std::istringstream::traits_type::eof()) return false;
  if (!(std::abs(wide) <= std::numeric_limits<float>::max())) return false;
  value = static_cast<float>(wide);
  return true;
}

std::string decimal_text(float value) {
  for (int digits = 1;; ++digits) {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    out.precision(digits);
    out << value;
    float back = 0;
    if (digits == 9 || (decimal_number(out.str(), back) && back == value)) return out.str();
  }
}

}  // namespace convoy
