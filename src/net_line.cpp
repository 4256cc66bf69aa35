#include "net_line.h"

#include <algorithm>

#include "nearest.h"

namespace convoy {
namespace {

constexpr size_t kMaxLine = 1000;
constexpr size_t kMaxName = 200;

const std::vector<LayerKind>& kinds() {
  static const std::vector<LayerKind> table = {
      {"input", "input HxWxC", 1, {}, {}},
      {"conv",
       "conv FILTERS RxS [stride N] [pad N] [nobias] [from NAME] [split outputs]",
       2,
       {"stride", "pad", "from", "split"},
       {"nobias"}},
      {"fc", "fc OUTPUTS [nobias] [from NAME] [split outputs]", 1, {"from", "split"}, {"nobias"}},
      {"maxpool", "maxpool RxS [stride N] [pad N] [from NAME]", 1, {"stride", "pad", "from"}, {}},
      {"avgpool", "avgpool RxS|global [stride N] [pad N] [from NAME]", 1, {"stride", "pad", "from"}, {}},
      {"relu", "relu [from NAME]", 0, {"from"}, {}},
      {"sigmoid", "sigmoid [from NAME]", 0, {"from"}, {}},
      {"tanh", "tanh [from NAME]", 0, {"from"}, {}},
      {"dropout", "dropout P [from NAME]", 1, {"from"}, {}},
      {"bn", "bn [eps X] [momentum X] [from NAME]", 0, {"eps", "momentum", "from"}, {}},
      {"add", "add NAME NAME", 2, {}, {}},
      {"lrn", "lrn WINDOW [alpha X] [beta X] [k X] [from NAME]", 1, {"alpha", "beta", "k", "from"}, {}},
  };
  return table;
}

// What users of other tools write first.
const std::map<std::string, std::string>& advice() {
  static const std::map<std::string, std::string> table = {
      {"linear", "a fully connected layer is fc"},
      {"dense", "a fully connected layer is fc"},
      {"conv2d", "did you mean conv?"},
      {"maxpool2d", "did you mean maxpool?"},
      {"avgpool2d", "did you mean avgpool?"},
      {"batchnorm", "did you mean bn?"},
      {"batchnorm2d", "did you mean bn?"},
      {"flatten", "leave it out: fc flattens its input"},
      {"softmax", "leave it out: it is part of the loss, and a net ends with fc"},
  };
  return table;
}

std::vector<std::string> kind_words() {
  std::vector<std::string> words;
  for (const LayerKind& kind : kinds()) words.push_back(kind.word);
  return words;
}

std::string kind_list() {
  std::string list;
  for (const std::string& word : kind_words()) list += (list.empty() ? "" : ", ") + word;
  return list;
}

bool contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

}  // namespace

NetLine::NetLine(const std::string& source, int line, const std::string& content)
    : source_(source), line_(line) {
  if (content.size() > kMaxLine)
    fail(static_cast<int>(kMaxLine) + 1, "a line has at most ", kMaxLine, " bytes, this one ",
         content.size());
  std::vector<Word> words = split_words(content);
  if (words.empty()) return;
  if (words[0].text.back() == ':') take_name(words);
  take_kind(words);
  take_arguments(words);
}

void NetLine::take_name(std::vector<Word>& words) {
  name_ = words[0];
  name_.text.pop_back();
  words.erase(words.begin());
  const std::string& name = name_.text;
  if (name.empty()) fail(name_, "a name is missing before ':'");
  if (name.size() > kMaxName) fail(name_, "a name has at most ", kMaxName, " bytes, this one ", name.size());
  const size_t bad =
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
  if (bad != std::string::npos)
    fail(name_.column + static_cast<int>(bad), "a name is letters, digits, '_', '-' and '.', not ",
         quoted(name.substr(bad, 1)));
  if (name.front() == '.' || name.back() == '.' || name.find("..") != std::string::npos)
    fail(name_, "the name ", quoted(name), " has an empty part beside a dot");
  if (name == "optimizer" || name.compare(0, 10, "optimizer.") == 0)
    fail(name_, "the name ", quoted(name), " is kept for the optimizer's state in checkpoints; use another");
  if (words.empty()) fail(name_.end() + 2, "a layer is missing after the name; the layers are ", kind_list());
}

void NetLine::take_kind(std::vector<Word>& words) {
  kind_word_ = words[0];
  words.erase(words.begin());
  const auto found = std::find_if(kinds().begin(), kinds().end(),
                                  [&](const LayerKind& kind) { return kind_word_.text == kind.word; });
  if (found != kinds().end()) {
    kind_ = &*found;
    return;
  }
  std::string lower = kind_word_.text;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const auto advised = advice().find(lower);
  std::string hint = advised != advice().end() ? "; " + advised->second : did_you_mean(lower, kind_words());
  if (hint.empty()) hint = "; the layers are " + kind_list();
  fail(kind_word_, "no layer ", quoted(kind_word_.text), hint);
}

// Sorts the words after the kind into positional ones, keywords with their value, and flags.
void NetLine::take_arguments(const std::vector<Word>& words) {
  const Word* last = &kind_word_;
  std::vector<std::string> known = kind_->keywords;
  known.insert(known.end(), kind_->flags.begin(), kind_->flags.end());
  for (size_t i = 0; i < words.size(); ++i) {
    const Word& word = words[i];
    last = &word;
    if (contains(known, word.text) && (keyword(word.text) != nullptr || flag(word.text)))
      fail(word, quoted(word.text), " stands twice");
    if (contains(kind_->keywords, word.text)) {
      if (i + 1 == words.size()) fail(word.end() + 1, "a value is missing after ", quoted(word.text));
      last = &words[++i];
      keywords_[word.text] = *last;
    } else if (contains(kind_->flags, word.text)) {
      flags_.insert(word.text);
    } else if (positional_.size() < kind_->positional) {
      positional_.push_back(word);
    } else if (word.text == "split") {
      fail(word, "'split outputs' stands on a conv or fc layer, not on ", kind_->word);
    } else {
      fail(word, quoted(word.text), " is not expected here", did_you_mean(word.text, known),
           "; the form is: ", kind_->usage);
    }
  }
  if (positional_.size() < kind_->positional)
    fail(last->end() + 1, kind_->word, " needs more; the form is: ", kind_->usage);
}

const Word* NetLine::keyword(const std::string& name) const {
  const auto found = keywords_.find(name);
  return found == keywords_.end() ? nullptr : &found->second;
}

const Word& NetLine::word_of(Part part) const {
  const auto keyword_or_kind = [&](const char* name) -> const Word& {
    const Word* word = keyword(name);
    return word != nullptr ? *word : kind_word_;
  };
  switch (part) {
    case Part::kKind:
      return kind_word_;
    case Part::kCount:
      return positional_[0];
    case Part::kWindow:
      return positional_.back();
    case Part::kStride:
      return keyword_or_kind("stride");
    case Part::kPad:
      return keyword_or_kind("pad");
    case Part::kFirst:
      return keyword_or_kind("from");
    case Part::kSecond:
      return positional_[1];
  }
  return kind_word_;
}

}  // namespace convoy
