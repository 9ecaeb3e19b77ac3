#include "data.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "error.hpp"
#include "text.hpp"

namespace vitrail::app {

namespace fs = std::filesystem;

namespace {

#include "synsets.inc"

constexpr const char* kHeldOut[] = {"val", "valid", "validation", "test"};
constexpr const char* kLists[] = {"val_label.txt", "val_labels.txt", "val.txt"};
constexpr std::uintmax_t kListBytes = 64u << 20;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_picture(const std::string& name) {
  const std::string low = lower(name);
  for (const std::string ending : {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"}) {
    if (low.size() > ending.size() && low.compare(low.size() - ending.size(), ending.size(), ending) == 0) return true;
  }
  return false;
}

// Names in a folder, by their bytes; hidden ones are passed over.
std::vector<std::string> names_in(const fs::path& folder, bool folders) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    std::error_code odd;
    if (name[0] != '.' && entry->is_directory(odd) == folders) names.push_back(name);
  }
  if (error) throw read_fault(error.value(), folder.string());
  std::sort(names.begin(), names.end());
  return names;
}

void collect(const fs::path& folder, std::vector<std::string>& paths, int depth) {
  if (depth > 32) throw Error("V402", "`" + folder.string() + "` is nested deeper than 32 folders", {}, "name a folder further down");
  for (const auto& name : names_in(folder, false)) {
    if (is_picture(name)) paths.push_back((folder / name).string());
  }
  for (const auto& name : names_in(folder, true)) collect(folder / name, paths, depth + 1);
}

std::vector<std::string> pictures_in(const fs::path& folder) {
  std::vector<std::string> paths;
  collect(folder, paths, 0);
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool holds_pictures(const fs::path& folder) {
  const std::vector<std::string> names = names_in(folder, false);
  return std::any_of(names.begin(), names.end(), is_picture);
}

// Names that are all WordNet ids of ImageNet-1k as published weights call them; any others as they are.
std::vector<std::string> in_words(std::vector<std::string> names) {
  static const std::map<std::string_view, const char*> words(std::begin(kSynsets), std::end(kSynsets));
  if (!std::all_of(names.begin(), names.end(), [](const std::string& name) { return words.count(name) != 0; })) return names;
  for (std::string& name : names) name = words.at(name);
  return names;
}

std::vector<Labelled> class_folders(const fs::path& root, const std::vector<std::string>& classes) {
  std::map<std::string, int> number;
  for (const auto& name : in_words(classes)) number.emplace(name, static_cast<int>(number.size()));
  if (number.size() != classes.size()) throw Error("V405", "the model calls two of its classes by one name", {}, "give it other names: train or convert again");
  const std::vector<std::string> folders = names_in(root, true), called = in_words(folders);
  std::vector<Labelled> found;
  for (std::size_t i = 0; i < folders.size(); ++i) {
    const std::string& name = folders[i];
    const auto label = number.find(printable(called[i]));
    if (label == number.end()) throw Error("V403", "the class `" + name + "` of `" + root.string() + "` is unknown to the model", {}, "rename the class folders to the model's names");
    const std::vector<std::string> paths = pictures_in(root / name);
    if (paths.empty()) throw Error("V401", "no pictures in `" + (root / name).string() + "`", {}, "fill the class folder or remove it");
    for (const auto& path : paths) found.push_back({path, label->second});
  }
  if (found.empty()) throw Error("V401", "no class folders in `" + root.string() + "`", {}, "expected one folder per class with pictures in it");
  return found;
}

int label_of(const std::string& word, const std::vector<std::string>& classes, const std::string& list) {
  int number = -1;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error == std::errc() && end == word.data() + word.size() && number >= 0 && number < static_cast<int>(classes.size())) return number;
  const auto name = std::find(classes.begin(), classes.end(), word);
  if (name == classes.end()) throw Error("V404", "`" + list + "` holds the label `" + word + "`, no class of the model", {}, "labels count the model's classes from 0, or name them");
  return static_cast<int>(name - classes.begin());
}

// NAME LABEL of each line; the name with or without the picture's ending, and with or without the folder before it.
std::vector<Labelled> listed(const fs::path& folder, const fs::path& list, const std::vector<std::string>& classes) {
  std::error_code error;
  if (fs::file_size(list, error) > kListBytes || error) throw Error("V404", "`" + list.string() + "` is too large for a list", {}, "name another folder");
  std::map<std::string, int> labels;
  std::ifstream file(list);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::vector<std::string> parts;
    for (std::string word; words >> word;) parts.push_back(word);
    if (parts.empty()) continue;
    if (parts.size() < 2) throw Error("V404", "`" + list.string() + "`: `" + line.substr(0, 80) + "` is not NAME LABEL", {}, "each line names a picture and its label");
    const std::string name = fs::path(line.substr(0, line.find_last_not_of(" \t\r") + 1 - parts.back().size())).filename().string();
    const std::string trimmed = name.substr(0, name.find_last_not_of(" \t") + 1);
    if (!labels.emplace(trimmed, label_of(parts.back(), classes, list.string())).second) throw Error("V404", "`" + list.string() + "` names `" + trimmed + "` twice", {}, "name each picture once");
  }
  if (file.bad()) throw read_fault(EIO, list.string());
  std::vector<Labelled> found;
  for (const auto& name : names_in(folder, false)) {
    if (!is_picture(name)) continue;
    auto label = labels.find(name);
    if (label == labels.end()) label = labels.find(name.substr(0, name.rfind('.')));
    if (label == labels.end()) throw Error("V404", "`" + list.string() + "` has no line for `" + name + "`", {}, "the list must name each picture of the folder once");
    found.push_back({(folder / name).string(), label->second});
  }
  if (found.size() != labels.size()) throw Error("V404", "`" + list.string() + "` names pictures that are not there", {}, "the list must name each picture of the folder once");
  return found;
}

}  // namespace

std::vector<Labelled> labelled(const std::string& root, const std::vector<std::string>& classes) {
  fs::path folder = root;
  std::error_code error;
  if (!fs::is_directory(folder, error)) throw Error("V402", "`" + root + "` is no folder", {}, "give a folder with one folder of pictures per class");
  const std::vector<std::string> folders = names_in(folder, true);
  for (const char* held : kHeldOut) {
    const auto below = std::find_if(folders.begin(), folders.end(), [&](const std::string& name) { return lower(name) == held; });
    if (below == folders.end() || std::find(classes.begin(), classes.end(), *below) != classes.end()) continue;
    folder /= *below;
    break;
  }
  if (!holds_pictures(folder)) return class_folders(folder, classes);
  for (const fs::path& place : {folder, folder.parent_path().empty() ? fs::path(".") : fs::absolute(folder).lexically_normal().parent_path()}) {
    for (const char* name : kLists) {
      if (fs::is_regular_file(place / name, error)) return listed(folder, place / name, classes);
    }
  }
  throw Error("V402", "the pictures in `" + folder.string() + "` lie in no class folders, and no val_label.txt lies there", {}, "put the list beside them");
}

std::vector<std::string> pictures_below(const std::string& root) {
  std::error_code error;
  if (!fs::is_directory(root, error)) throw Error("V402", "`" + root + "` is no folder", {}, "give a folder of pictures");
  std::vector<std::string> paths = pictures_in(root);
  if (paths.empty()) throw Error("V401", "no pictures in `" + root + "`", {}, "give a folder of pictures");
  return paths;
}

std::vector<std::string> files_in(const std::string& root) {
  std::vector<std::string> files;
  const auto take = [&](const fs::path& folder) {
    for (const auto& name : names_in(folder, false)) files.push_back((folder / name).string());
  };
  take(root);
  for (const auto& name : names_in(root, true)) take(fs::path(root) / name);
  if (files.empty()) throw Error("V401", "no records in `" + root + "`", {}, "name the folder that `vitrail offline pack` made");
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace vitrail::app
