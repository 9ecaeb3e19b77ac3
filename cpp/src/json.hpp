// Canonical JSON, as vitrail/bundle/values.py writes it: ASCII, keys sorted, indented by one blank, a newline at the end.
// Equal values have one text, so a text that is not byte for byte what would be written again is refused, and with it
// duplicate keys, NaN, and every other liberty of JSON. No JSON library tells the two apart, hence a reader of our own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace vitrail::json {

struct Value;
using List = std::vector<Value>;
using Object = std::vector<std::pair<std::string, Value>>;  // sorted by key
// Not trivially copied: of alternatives that libstdc++ 12 thinks can never be lost, a copy for which memory is lacking is
// destroyed as if it were whole, and the process dies.
struct Null {
  Null() = default;
  Null(const Null&) noexcept {}
  Null& operator=(const Null&) noexcept { return *this; }
};
struct Large {  // a whole number beyond 64 bits, as the nearest double, or infinity
  double value;
};

struct Value {
  std::variant<Null, bool, std::int64_t, Large, double, std::string, List, Object> held;

  const std::string* text() const { return std::get_if<std::string>(&held); }
  const std::int64_t* integer() const { return std::get_if<std::int64_t>(&held); }
  const List* list() const { return std::get_if<List>(&held); }
  const Object* object() const { return std::get_if<Object>(&held); }
  bool null() const { return std::holds_alternative<Null>(held); }

  // Whether it is a number (true and false are none); `number` then holds it, infinity where it is beyond all doubles.
  bool is_number(double& number) const;
};

const Value* find(const Object& object, std::string_view key);  // nullptr where there is no such key

// The object that canonical JSON holds. Error V501 for every other text.
Object parse_canonical(std::string_view data, const std::string& where);

// Like Python's json.dumps(text): quotes and escapes, ASCII alone.
std::string quoted(std::string_view text);

// Like Python's repr of a float.
std::string number(double value);

}  // namespace vitrail::json
