// "Did you mean ...?"
#pragma once
#include <string>
#include <vector>

namespace convoy {

// The candidate with the fewest edits from `word`; empty when none is near (more than a third of its letters
// differ).
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

// "; did you mean CANDIDATE?" or "".
std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace convoy
