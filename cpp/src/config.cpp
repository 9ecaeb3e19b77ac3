// The config of a network, checked by a table that Python writes: nothing here knows an architecture.
// Contradictions between fields (a width that the heads do not divide) are left to Python: no network is built here.

#include <algorithm>
#include <string_view>

#include "manifest.hpp"

namespace vitrail {

namespace {

using json::Object;
using json::Value;

enum class Kind { whole, real, boolean, choice, two, wholes };

struct Field {
  std::string_view family, name;
  Kind kind;
  double low, high;  // both 0 where there is no range
  bool needed;
  std::string_view words;  // of a choice
};

#include "families.inc"

bool in_range(const Field& field, const Value& value) {
  double number = 0;
  return value.is_number(number) && (field.low == field.high || (field.low <= number && number <= field.high));
}

bool is_choice(const Field& field, const std::string* word) {
  const std::string all = "|" + std::string(field.words) + "|";
  return word != nullptr && word->find('|') == std::string::npos && all.find("|" + *word + "|") != std::string::npos;
}

bool holds(const Field& field, const Value& value) {
  switch (field.kind) {
    case Kind::whole:
      return value.integer() != nullptr && in_range(field, value);
    case Kind::real:
      return in_range(field, value);
    case Kind::boolean:
      return std::holds_alternative<bool>(value.held);
    case Kind::choice:
      return is_choice(field, value.text());
    case Kind::two:
    case Kind::wholes: {
      const json::List* list = value.list();
      if (list == nullptr || list->size() > 8 || (field.kind == Kind::two && list->size() != 2)) return false;
      return std::all_of(list->begin(), list->end(), [&](const Value& item) { return item.integer() != nullptr && in_range(field, item); });
    }
  }
  return false;
}

}  // namespace

void check_config(const std::string& family, const Object& config) {
  bool known = false;
  for (const auto& field : kFields) {
    if (field.family != family) continue;
    known = true;
    const Value* value = json::find(config, field.name);
    if (value == nullptr && field.needed) throw bad_manifest("model config lacks " + std::string(field.name));
    if (value != nullptr && !holds(field, *value)) throw bad_manifest("model config does not hold: " + std::string(field.name));
  }
  if (!known) throw bad_manifest("model family `" + family.substr(0, 80) + "` is unknown", "use a newer vitrail, or make the bundle again");
  for (const auto& entry : config) {
    const auto same = [&](const Field& field) { return field.family == family && field.name == entry.first; };
    if (std::none_of(std::begin(kFields), std::end(kFields), same)) {
      throw bad_manifest("model config has unknown keys: " + entry.first, "use a newer vitrail, or make the bundle again");
    }
  }
}

}  // namespace vitrail
