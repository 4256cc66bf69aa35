// Words of a line of a net file, and how they are shown in messages.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace convoy {

struct Word {
  std::string text;
  int column = 1;  // of its first byte, 1-based
  int end() const { return column + static_cast<int>(text.size()); }
};

// The words of a line, its comment left out. A colon ends the first word and stays with it: "fc1:".
std::vector<Word> split_words(const std::string& line);

// 'word', with bytes that are not printable as \x1b, shortened past 40 bytes: a message stays one clean line.
std::string quoted(const std::string& word);

// Digits only, at most `limit`; -1 for anything else.
int64_t whole_number(const std::string& word, int64_t limit);

// A finite decimal number, whatever the locale.
bool decimal_number(const std::string& word, float& value);

// The shortest text that decimal_number reads back as the same float.
std::string decimal_text(float value);

}  // namespace convoy
