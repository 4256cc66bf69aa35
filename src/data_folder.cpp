// A folder of class folders: DIR/train/<class>/* and DIR/val/<class>/* or DIR/test/<class>/*, JPEG and PNG.
#include <algorithm>
#include <cctype>
#include <climits>

#include "data_readers.h"
#include "image_file.h"

namespace convoy {
namespace {

bool is_image_name(const std::string& name) {
  std::string lower;
  for (const char c : name) lower.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  for (const std::string ending : {".jpg", ".jpeg", ".png"})
    if (lower.size() > ending.size() &&
        lower.compare(lower.size() - ending.size(), ending.size(), ending) == 0)
      return true;
  return false;
}

std::vector<std::string> list_classes(const std::string& folder) {
  const std::string prefix = folder + "/";
  std::vector<std::string> classes;
  for (const std::string& name : list_folder(folder)) {
    if (is_folder(prefix + name))
      classes.push_back(name);
    else if (is_image_name(name))
      input_error(folder, "/", name, ": lies outside of a class folder, want ", folder, "/<class>/", name);
  }
  if (classes.empty())
    input_error(folder, ": holds no class folders, want ", folder, "/<class>/*.jpg or *.png");
  return classes;
}

// Other files than images are left alone (lists, thumbnails' databases); a folder among the images is
// refused: its images would be missing without a word.
std::vector<std::string> list_images(const std::string& folder) {
  const std::string prefix = folder + "/";
  std::vector<std::string> paths;
  int64_t others = 0;
  for (const std::string& name : list_folder(folder)) {
    const std::string path = prefix + name;
    if (is_folder(path))
      input_error(path, ": is a folder inside a class folder; images lie in the class folder itself");
    if (is_image_name(name))
      paths.push_back(path);
    else
      ++others;
  }
  if (paths.empty())
    input_error(folder, ": the class folder holds no .jpg, .jpeg or .png file",
                others > 0 ? text(" (", others, " of other kinds)") : "");
  return paths;
}

DataSet list_set(const std::string& folder, const std::string& name, int64_t side,
                 const std::vector<std::string>& classes) {
  DataSet set;
  set.name = name;
  set.image = Input{side, side, 3};
  set.classes = static_cast<int64_t>(classes.size());
  set.class_names = classes;
  set.decodes = true;
  const std::string prefix = folder + "/";
  const auto paths = std::make_shared<std::vector<std::string>>();
  for (const std::string& folder_class : list_classes(folder)) {
    const auto found = std::lower_bound(classes.begin(), classes.end(), folder_class);
    if (found == classes.end() || *found != folder_class)
      input_error(folder, "/", folder_class, ": this class has no folder among the training images");
    for (std::string& path : list_images(prefix + folder_class)) {
      paths->push_back(std::move(path));
      set.labels.push_back(static_cast<int32_t>(found - classes.begin()));
    }
  }
  CONVOY_CHECK(paths->size() <= INT_MAX, folder, ": ", paths->size(), " images");
  set.read = [paths, image = set.image](int64_t index, uint8_t* pixels) {
    read_image((*paths)[static_cast<size_t>(index)], image, pixels);
  };
  return set;
}

}  // namespace

DataSets load_folder(const DataOptions& options) {
  constexpr int64_t kMaxSide = 4096;
  const int64_t side = options.image_size == 0 ? 224 : options.image_size;
  if (side < 1 || side > kMaxSide)
    input_error("--data ", options.name, ": an image size of ", side, ", want 1 to ", kMaxSide);
  const std::string train = options.name + "/train";
  if (!is_folder(train))
    input_error(options.name, ": has no train folder, want ", train, "/<class>/* and ", options.name,
                "/val/<class>/*");
  std::string test = options.name + "/val";
  if (!is_folder(test)) test = options.name + "/test";
  if (!is_folder(test))
    input_error(options.name, ": has neither a val nor a test folder, want ", options.name, "/val/<class>/*");
  const std::vector<std::string> classes = list_classes(train);
  DataSets sets;
  sets.train = list_set(train, options.name + " train", side, classes);
  sets.test = list_set(test, options.name + " test", side, classes);
  sets.normalization = {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
  sets.augment_flip = true;
  return sets;
}

}  // namespace convoy
