// A running nire-live stream from C++17: receive images, ask for an instant, send any request. Needs libzmq alone.
//
//   nire::Subscriber newest("tcp://127.0.0.1:5556", "frame/upsample", nire::Mode::newest);
//   while (auto frame = newest.receive(1000)) show(frame->pixels.data(), frame->width(), frame->height());
//
//   nire::Stream stream;
//   nire::Frame frame = stream.expose_wall(stamp_ns);  // a robot's CLOCK_REALTIME, ns
//
// One header, no library of ours. docs/wire-format.md has every key; g++ -std=c++17 program.cpp -lzmq builds it.
// Errors are std::runtime_error. An object is for one thread at a time.

#pragma once

#include <zmq.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace nire {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The stream does not cover what was asked for, any more or yet: device time that it covers, us.
struct NotCovered : Error {
  NotCovered(const std::string& hint, double first, double last) : Error(hint), first_us(first), last_us(last) {}
  double first_us, last_us;
};

// A msgpack value. Maps keep the order of their keys.
struct Value {
  using List = std::vector<Value>;
  using Map = std::vector<std::pair<std::string, Value>>;
  using Bytes = std::vector<uint8_t>;
  std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Bytes, List, Map> held = nullptr;

  Value() = default;
  Value(bool value) : held(value) {}
  Value(int value) : held(int64_t{value}) {}
  Value(int64_t value) : held(value) {}
  Value(uint64_t value) : held(value) {}
  Value(double value) : held(value) {}
  Value(const char* value) : held(std::string(value)) {}
  Value(std::string value) : held(std::move(value)) {}
  Value(Bytes value) : held(std::move(value)) {}
  Value(List value) : held(std::move(value)) {}
  Value(Map value) : held(std::move(value)) {}

  bool is_nil() const { return std::holds_alternative<std::nullptr_t>(held); }

  // The value of a key; nullptr where this is no map, or has no such key.
  const Value* find(const std::string& key) const {
    if (const Map* map = std::get_if<Map>(&held))
      for (const auto& [name, value] : *map)
        if (name == key) return &value;
    return nullptr;
  }
  const Value& at(const std::string& key) const {
    if (const Value* value = find(key)) return *value;
    throw Error("the message lacks '" + key + "'");
  }
  bool flag() const { return get<bool>("a truth value"); }
  const std::string& text() const { return get<std::string>("a text"); }
  const List& list() const { return get<List>("a list"); }
  double number() const {
    if (const auto* value = std::get_if<double>(&held)) return *value;
    if (const auto* value = std::get_if<uint64_t>(&held)) return static_cast<double>(*value);
    return static_cast<double>(get<int64_t>("a number"));
  }
  int64_t whole() const {
    if (const auto* value = std::get_if<uint64_t>(&held)) return static_cast<int64_t>(*value);
    return get<int64_t>("a whole number");
  }

 private:
  template <class T>
  const T& get(const char* what) const {
    if (const T* value = std::get_if<T>(&held)) return *value;
    throw Error(std::string("expected ") + what + ", found something else");
  }
};

// Reads one msgpack value from [begin, end).
class Unpacker {
 public:
  Unpacker(const uint8_t* begin, const uint8_t* end) : at_(begin), end_(end) {}

  Value value(int depth = 0) {
    if (depth > kDeepest) throw Error("the message is nested too deep");
    const uint8_t kind = *take(1);
    if (kind <= 0x7f) return Value(int64_t{kind});
    if (kind >= 0xe0) return Value(int64_t{static_cast<int8_t>(kind)});
    if (kind <= 0x8f) return map(kind & 0x0f, depth);
    if (kind <= 0x9f) return list(kind & 0x0f, depth);
    if (kind <= 0xbf) return Value(text(kind & 0x1f));
    switch (kind) {
      case 0xc0: return Value();
      case 0xc2: return Value(false);
      case 0xc3: return Value(true);
      case 0xc4: return bytes(big(1));
      case 0xc5: return bytes(big(2));
      case 0xc6: return bytes(big(4));
      case 0xca: return Value(static_cast<double>(from_bits<float, uint32_t>(big(4))));
      case 0xcb: return Value(from_bits<double, uint64_t>(big(8)));
      case 0xcc: return Value(static_cast<int64_t>(big(1)));
      case 0xcd: return Value(static_cast<int64_t>(big(2)));
      case 0xce: return Value(static_cast<int64_t>(big(4)));
      case 0xcf: return unsigned_of(big(8));
      case 0xd0: return Value(int64_t{static_cast<int8_t>(big(1))});
      case 0xd1: return Value(int64_t{static_cast<int16_t>(big(2))});
      case 0xd2: return Value(int64_t{static_cast<int32_t>(big(4))});
      case 0xd3: return Value(static_cast<int64_t>(big(8)));
      case 0xd9: return Value(text(big(1)));
      case 0xda: return Value(text(big(2)));
      case 0xdb: return Value(text(big(4)));
      case 0xdc: return list(big(2), depth);
      case 0xdd: return list(big(4), depth);
      case 0xde: return map(big(2), depth);
      case 0xdf: return map(big(4), depth);
      default: throw Error("the message holds a type that the wire format does not have");
    }
  }

  bool is_at_end() const { return at_ == end_; }

 private:
  static constexpr int kDeepest = 8;
  const uint8_t* at_;
  const uint8_t* end_;

  const uint8_t* take(uint64_t count) {
    if (count > static_cast<uint64_t>(end_ - at_)) throw Error("the message ends too early");
    const uint8_t* taken = at_;
    at_ += count;
    return taken;
  }
  uint64_t big(int count) {
    uint64_t value = 0;
    for (const uint8_t* byte = take(count); count > 0; --count) value = value << 8 | *byte++;
    return value;
  }
  template <class T, class Bits>
  static T from_bits(uint64_t wide) {
    const Bits bits = static_cast<Bits>(wide);
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  static Value unsigned_of(uint64_t value) {
    return value > static_cast<uint64_t>(INT64_MAX) ? Value(value) : Value(static_cast<int64_t>(value));
  }
  std::string text(uint64_t count) {
    const uint8_t* begin = take(count);
    return std::string(reinterpret_cast<const char*>(begin), count);
  }
  Value bytes(uint64_t count) {
    const uint8_t* begin = take(count);
    return Value(Value::Bytes(begin, begin + count));
  }
  Value list(uint64_t count, int depth) {
    Value::List items;
    while (count-- > 0) items.push_back(value(depth + 1));
    return Value(std::move(items));
  }
  Value map(uint64_t count, int depth) {
    Value::Map items;
    while (count-- > 0) {
      std::string key = value(depth + 1).text();
      items.emplace_back(std::move(key), value(depth + 1));
    }
    return Value(std::move(items));
  }
};

// Writes a msgpack value, each in its shortest form, as Python's msgpack does.
class Packer {
 public:
  static Value::Bytes packed(const Value& value) {
    Packer packer;
    packer.add(value);
    return std::move(packer.out_);
  }

 private:
  Value::Bytes out_;

  void add(const Value& value) {
    std::visit([this](const auto& held) { put(held); }, value.held);
  }
  void put(std::nullptr_t) { byte(0xc0); }
  void put(bool value) { byte(value ? 0xc3 : 0xc2); }
  void put(uint64_t value) {
    if (value <= 0x7f) byte(static_cast<uint8_t>(value));
    else if (value <= 0xff) tagged(0xcc, value, 1);
    else if (value <= 0xffff) tagged(0xcd, value, 2);
    else if (value <= 0xffffffff) tagged(0xce, value, 4);
    else tagged(0xcf, value, 8);
  }
  void put(int64_t value) {
    if (value >= 0) put(static_cast<uint64_t>(value));
    else if (value >= -32) byte(static_cast<uint8_t>(value));
    else if (value >= INT8_MIN) tagged(0xd0, static_cast<uint64_t>(value), 1);
    else if (value >= INT16_MIN) tagged(0xd1, static_cast<uint64_t>(value), 2);
    else if (value >= INT32_MIN) tagged(0xd2, static_cast<uint64_t>(value), 4);
    else tagged(0xd3, static_cast<uint64_t>(value), 8);
  }
  void put(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    tagged(0xcb, bits, 8);
  }
  void put(const std::string& value) {
    if (value.size() < 32) byte(static_cast<uint8_t>(0xa0 | value.size()));
    else if (value.size() <= 0xff) tagged(0xd9, value.size(), 1);
    else if (value.size() <= 0xffff) tagged(0xda, value.size(), 2);
    else tagged(0xdb, value.size(), 4);
    out_.insert(out_.end(), value.begin(), value.end());
  }
  void put(const Value::Bytes& value) {
    if (value.size() <= 0xff) tagged(0xc4, value.size(), 1);
    else if (value.size() <= 0xffff) tagged(0xc5, value.size(), 2);
    else tagged(0xc6, value.size(), 4);
    out_.insert(out_.end(), value.begin(), value.end());
  }
  void put(const Value::List& value) {
    if (value.size() < 16) byte(static_cast<uint8_t>(0x90 | value.size()));
    else if (value.size() <= 0xffff) tagged(0xdc, value.size(), 2);
    else tagged(0xdd, value.size(), 4);
    for (const Value& item : value) add(item);
  }
  void put(const Value::Map& value) {
    if (value.size() < 16) byte(static_cast<uint8_t>(0x80 | value.size()));
    else if (value.size() <= 0xffff) tagged(0xde, value.size(), 2);
    else tagged(0xdf, value.size(), 4);
    for (const auto& [key, item] : value) {
      put(key);
      add(item);
    }
  }
  void tagged(uint8_t tag, uint64_t value, int count) {
    byte(tag);
    while (count-- > 0) byte(static_cast<uint8_t>(value >> (8 * count)));
  }
  void byte(uint8_t value) { out_.push_back(value); }
};

// An image, or a status (then `pixels` is empty). Times in _us are device time, in _ns the host's.
struct Frame {
  std::string topic;
  Value header;                 // every key, for those that are not below
  std::vector<int64_t> shape;   // H, W, C
  std::string dtype, encoding;  // "uint8" and "raw"; or "jpeg": then `pixels` is one JPEG file
  int64_t index = 0;            // a hole is a lost image
  double t_a_us = 0, t_b_us = 0, row_delay_us = 0;
  std::optional<int64_t> wall_ns;             // middle of the exposure, CLOCK_REALTIME; none where not known
  std::optional<double> wall_uncertainty_us;  // how far it may be off, either way
  std::vector<uint8_t> pixels;                // C order

  int64_t height() const { return shape.empty() ? 0 : shape[0]; }
  int64_t width() const { return shape.size() < 2 ? 0 : shape[1]; }
  int64_t channels() const { return shape.size() < 3 ? 1 : shape[2]; }
};

// Takes a message apart: topic \0, length of the header, header, pixels.
inline Frame frame_of(const uint8_t* data, size_t size) {
  constexpr size_t kLongestTopic = 256, kLongestHeader = 1 << 20, kMostPixels = size_t{1} << 30;
  const void* zero = std::memchr(data, 0, size < kLongestTopic + 1 ? size : kLongestTopic + 1);
  if (zero == nullptr) throw Error("the message has no topic: is this a nire-live stream?");
  const uint8_t* at = static_cast<const uint8_t*>(zero) + 1;
  const uint8_t* end = data + size;
  if (end - at < 4) throw Error("the message ends inside the length of its header");
  const size_t length = at[0] | at[1] << 8 | at[2] << 16 | static_cast<size_t>(at[3]) << 24;
  at += 4;
  if (length > kLongestHeader || length > static_cast<size_t>(end - at))
    throw Error("the header claims more bytes than there are");
  Frame frame;
  frame.topic.assign(reinterpret_cast<const char*>(data), static_cast<const uint8_t*>(zero) - data);
  Unpacker unpacker(at, at + length);
  frame.header = unpacker.value();
  if (!unpacker.is_at_end()) throw Error("bytes are left behind the header");
  const Value* version = frame.header.find("v");
  if (version == nullptr || version->whole() != 1) throw Error("the message has another version of the format");
  if (frame.header.find("shape") == nullptr) return frame;
  for (const Value& n : frame.header.at("shape").list()) frame.shape.push_back(n.whole());
  frame.dtype = frame.header.at("dtype").text();
  frame.encoding = frame.header.at("encoding").text();
  frame.index = frame.header.at("index").whole();
  frame.t_a_us = frame.header.at("t_a_us").number();
  frame.t_b_us = frame.header.at("t_b_us").number();
  frame.row_delay_us = frame.header.at("row_delay_us").number();
  if (!std::isfinite(frame.t_a_us) || !std::isfinite(frame.t_b_us) || !std::isfinite(frame.row_delay_us))
    throw Error("the shutter is not finite");
  if (const Value* value = frame.header.find("wall_ns")) frame.wall_ns = value->whole();
  if (const Value* value = frame.header.find("wall_uncertainty_us")) frame.wall_uncertainty_us = value->number();
  frame.pixels.assign(at + length, end);
  if (frame.encoding == "jpeg") return frame;
  if (frame.encoding != "raw") throw Error("the encoding '" + frame.encoding + "' is not known");
  size_t bytes = frame.dtype == "uint8" || frame.dtype == "int8" ? 1 : frame.dtype == "uint16" ? 2 : 0;
  if (frame.dtype == "float32") bytes = 4;
  if (bytes == 0) throw Error("the dtype '" + frame.dtype + "' is not known");
  if (frame.shape.empty() || frame.shape.size() > 4) throw Error("the shape is no list of sizes");
  for (int64_t n : frame.shape) {
    if (n <= 0 || n >= 1 << 20) throw Error("the shape is no list of sizes");
    bytes *= static_cast<size_t>(n);
    if (bytes > kMostPixels) throw Error("the image is larger than any of ours");
  }
  if (bytes != frame.pixels.size()) throw Error("the shape does not fit the pixels");
  return frame;
}

// Keys of a client and of the stream, Z85, as `nire-live keys new` writes them into files.
struct Keys {
  std::string own_public, own_secret, server_public;
};

namespace detail {

struct CloseSocket {
  void operator()(void* socket) const { zmq_close(socket); }
};
struct EndContext {
  void operator()(void* context) const { zmq_ctx_term(context); }
};
using Socket = std::unique_ptr<void, CloseSocket>;
using Context = std::unique_ptr<void, EndContext>;

inline Error failed(const std::string& what) { return Error(what + ": " + zmq_strerror(zmq_errno())); }

inline void set(void* socket, int option, int value) {
  if (zmq_setsockopt(socket, option, &value, sizeof value) != 0) throw failed("ZMQ refuses an option");
}

inline Socket connected(void* context, int kind, const std::string& address, const Keys& keys,
                        const std::vector<std::pair<int, int>>& options, const std::string* topic = nullptr) {
  Socket socket(zmq_socket(context, kind));
  if (!socket) throw failed("ZMQ makes no socket");
  set(socket.get(), ZMQ_LINGER, 0);
  for (const auto& [option, value] : options) set(socket.get(), option, value);
  if (topic != nullptr) zmq_setsockopt(socket.get(), ZMQ_SUBSCRIBE, topic->data(), topic->size());
  if (!keys.server_public.empty()) {
    zmq_setsockopt(socket.get(), ZMQ_CURVE_SERVERKEY, keys.server_public.c_str(), 41);
    zmq_setsockopt(socket.get(), ZMQ_CURVE_PUBLICKEY, keys.own_public.c_str(), 41);
    zmq_setsockopt(socket.get(), ZMQ_CURVE_SECRETKEY, keys.own_secret.c_str(), 41);
  }
  if (zmq_connect(socket.get(), address.c_str()) != 0) throw failed("cannot connect to " + address);
  return socket;
}

// The next message; none within the time.
inline std::optional<Value::Bytes> received(void* socket, long timeout_ms) {
  zmq_pollitem_t item{socket, 0, ZMQ_POLLIN, 0};
  const int ready = zmq_poll(&item, 1, timeout_ms);
  if (ready < 0 && zmq_errno() != EINTR) throw failed("waiting for a message");
  if (ready <= 0) return std::nullopt;
  zmq_msg_t message;
  zmq_msg_init(&message);
  if (zmq_msg_recv(&message, socket, 0) < 0) throw failed("receiving a message");
  const uint8_t* data = static_cast<const uint8_t*>(zmq_msg_data(&message));
  Value::Bytes bytes(data, data + zmq_msg_size(&message));
  zmq_msg_close(&message);
  return bytes;
}

}  // namespace detail

enum class Mode {
  newest,  // a display, a control loop: what was not taken is replaced by the next
  every,   // a recorder: all in order, a hole in `index` is a loss
};

// Receives one topic: "frame/upsample", "captured", "events", "status".
class Subscriber {
 public:
  Subscriber(const std::string& address, std::string topic, Mode mode, const Keys& keys = {})
      : context_(zmq_ctx_new()) {
    topic.push_back('\0');  // "frame/a" would also bring "frame/ab"
    const std::pair<int, int> option =
        mode == Mode::newest ? std::pair{ZMQ_CONFLATE, 1} : std::pair{ZMQ_RCVHWM, 1024};
    socket_ = detail::connected(context_.get(), ZMQ_SUB, address, keys, {option}, &topic);
  }

  // The next message; none within the time (-1 = wait for ever).
  std::optional<Frame> receive(long timeout_ms) {
    const auto bytes = detail::received(socket_.get(), timeout_ms);
    return bytes ? std::optional(frame_of(bytes->data(), bytes->size())) : std::nullopt;
  }

 private:
  detail::Context context_;
  detail::Socket socket_;
};

// Sends requests and gets images that were asked for.
class Stream {
 public:
  explicit Stream(const std::string& address = "tcp://127.0.0.1:5556",
                  const std::string& control = "tcp://127.0.0.1:5557", const Keys& keys = {},
                  int timeout_ms = 10000)
      : context_(zmq_ctx_new()), timeout_ms_(timeout_ms), images_(address, "frame/expose", Mode::every, keys) {
    socket_ = detail::connected(context_.get(), ZMQ_REQ, control, keys,
                                {{ZMQ_REQ_RELAXED, 1}, {ZMQ_REQ_CORRELATE, 1}});
  }

  // Any request of docs/wire-format.md; gives the answer, or throws what the stream says is wrong.
  Value ask(const std::string& command, Value::Map fields = {}) {
    fields.insert(fields.begin(), {"command", command});
    const Value::Bytes request = Packer::packed(Value(std::move(fields)));
    if (zmq_send(socket_.get(), request.data(), request.size(), 0) < 0) throw detail::failed("sending a request");
    const auto bytes = detail::received(socket_.get(), timeout_ms_);
    if (!bytes) throw Error("nobody answers: is the stream running?");
    Value answer = Unpacker(bytes->data(), bytes->data() + bytes->size()).value();
    if (answer.at("ok").flag()) return answer;
    const std::string hint = answer.at("hint").text();
    if (answer.at("error").text() != "not_covered") throw Error(hint);
    const Value::List& covered = answer.at("covered_us").list();
    throw NotCovered(hint, covered.at(0).number(), covered.at(1).number());
  }

  // One image by device time: start of the first row's exposure, and its length, us; 0 = an instant.
  Frame expose(double t_us, double for_us = 0, double row_delay_us = 0) {
    return exposed({{"t_us", t_us}, {"for_us", for_us}, {"row_delay_us", row_delay_us}});
  }

  // One image by a robot's time: middle of the exposure, CLOCK_REALTIME, ns since 1970.
  Frame expose_wall(int64_t wall_ns, double for_us = 0, double row_delay_us = 0) {
    return exposed({{"wall_ns", wall_ns}, {"for_us", for_us}, {"row_delay_us", row_delay_us}});
  }

 private:
  detail::Context context_;
  detail::Socket socket_;
  int timeout_ms_;
  Subscriber images_;

  // An image is sent before the answer that names it. What was sent before the subscription had arrived is asked again.
  Frame exposed(const Value::Map& fields) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::milliseconds(timeout_ms_);
    std::vector<std::pair<int64_t, double>> answers;
    for (long wait_ms = 50; Clock::now() < end; wait_ms *= 2) {
      const Value answer = ask("expose", fields);
      answers.emplace_back(answer.at("index").whole(), answer.at("t_a_us").number());
      const auto until = Clock::now() + std::chrono::milliseconds(wait_ms);
      while (Clock::now() < until) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
        auto frame = images_.receive(static_cast<long>(left.count()) + 1);
        if (!frame) break;
        for (const auto& [index, t_a_us] : answers)
          if (frame->index == index && frame->t_a_us == t_a_us) return std::move(*frame);
      }
    }
    throw Error("the stream answers, but no image comes: is that its publishing address?");
  }
};

}  // namespace nire
