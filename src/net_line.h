// One line of a net file taken apart: its name, its kind, and the arguments of that kind.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "net_shape.h"
#include "net_text.h"

namespace convoy {

// What may stand on the line of a kind of layer. A keyword takes the word after it; a flag stands alone.
struct LayerKind {
  const char* word;
  const char* usage;
  size_t positional;
  std::vector<std::string> keywords, flags;
};

class NetLine {
 public:
  // Throws InputError "source:line:col: message" for a line that no kind of layer takes.
  NetLine(const std::string& source, int line, const std::string& content);

  bool empty() const { return kind_ == nullptr; }  // a blank line or a comment
  int line() const { return line_; }
  bool named() const { return !name_.text.empty(); }
  const Word& name() const { return name_; }
  const Word& kind() const { return kind_word_; }
  const Word& positional(size_t i) const { return positional_[i]; }
  const Word* keyword(const std::string& name) const;  // its value, or nullptr
  bool flag(const std::string& name) const { return flags_.count(name) > 0; }
  const Word& word_of(Part part) const;  // where a problem with a part is reported

  template <class... Parts>
  [[noreturn]] void fail(int column, const Parts&... parts) const {
    input_error(source_, ":", line_, ":", column, ": ", parts...);
  }
  template <class... Parts>
  [[noreturn]] void fail(const Word& word, const Parts&... parts) const {
    fail(word.column, parts...);
  }

 private:
  void take_name(std::vector<Word>& words);
  void take_kind(std::vector<Word>& words);
  void take_arguments(const std::vector<Word>& words);

  const std::string& source_;
  int line_;
  Word name_, kind_word_;
  const LayerKind* kind_ = nullptr;
  std::vector<Word> positional_;
  std::map<std::string, Word> keywords_;
  std::set<std::string> flags_;
};

// The values of a line's arguments. Throws InputError for one that is out of its range.
LayerSpec read_spec(const NetLine& line);

}  // namespace convoy
