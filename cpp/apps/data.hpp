// Labelled pictures on the disk: class folders, or a flat folder with its list.
#pragma once

#include <string>
#include <vector>

namespace vitrail::app {

struct Labelled {
  std::string path;
  int label;  // the place of its class in the model's classes; -1 where nobody asked for labels
};

// The pictures in `root`, in the order in which Python counts them: by the bytes of their paths.
//
// Class folders in `root`, or in its `val` (valid, validation, test) where it holds such a folder of class folders; or
// pictures in `root` or its `val` themselves with `val_label.txt` in it or beside it: lines NAME LABEL, the label a
// number that counts the classes from 0, or a name. Error V401, V402, V403, V404.
std::vector<Labelled> labelled(const std::string& root, const std::vector<std::string>& classes);

// The pictures of all folders in `root`, or in it, by path, without labels. Error V401.
std::vector<std::string> pictures_below(const std::string& root);

// The files in a folder and in those one level below, by path. Error V401, V702.
std::vector<std::string> files_in(const std::string& root);

}  // namespace vitrail::app
