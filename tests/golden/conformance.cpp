// Reads golden messages with examples/nire_live.hpp and says what they hold: conformance published|request FILE...
// One line of JSON each, or "refused". What was read is packed again, and must be the same bytes.

#include <cstdio>
#include <fstream>
#include <iterator>

#include "nire_live.hpp"

static void print(const nire::Value& value);

static void print(std::nullptr_t) { std::printf("null"); }
static void print(bool value) { std::printf(value ? "true" : "false"); }
static void print(int64_t value) { std::printf("%lld", static_cast<long long>(value)); }
static void print(uint64_t value) { std::printf("%llu", static_cast<unsigned long long>(value)); }
static void print(double value) { std::printf("%.17g", value); }
static void print(const std::string& value) { std::printf("\"%s\"", value.c_str()); }
static void print(const nire::Value::Bytes& value) {
  std::printf("\"");
  for (uint8_t byte : value) std::printf("%02x", byte);
  std::printf("\"");
}
static void print(const nire::Value::List& value) {
  const char* between = "[";
  for (const auto& item : value) { std::printf("%s", between); print(item); between = ", "; }
  std::printf("]");
}
static void print(const nire::Value::Map& value) {
  const char* between = "{";
  for (const auto& [key, item] : value) { std::printf("%s", between); print(key); std::printf(": "); print(item); between = ", "; }
  std::printf("}");
}
static void print(const nire::Value& value) {
  std::visit([](const auto& held) { print(held); }, value.held);
}

int main(int argc, char** argv) {
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
    try {
      if (std::string(argv[1]) == "request") {
        const nire::Value value = nire::Unpacker(bytes.data(), bytes.data() + bytes.size()).value();
        if (nire::Packer::packed(value) != bytes) return 1;
        print(value);
      } else {
        const nire::Frame frame = nire::frame_of(bytes.data(), bytes.size());
        const auto header = nire::Packer::packed(frame.header);
        const std::vector<uint8_t> same(bytes.begin() + static_cast<long>(frame.topic.size()) + 5,
                                        bytes.end() - static_cast<long>(frame.pixels.size()));
        if (header != same) return 1;
        std::printf("[\"%s\", ", frame.topic.c_str());
        print(frame.header);
        std::printf(", ");
        print(frame.pixels);
        std::printf("]");
      }
      std::printf("\n");
    } catch (const nire::Error&) {
      std::printf("\"refused\"\n");
    }
  }
}
