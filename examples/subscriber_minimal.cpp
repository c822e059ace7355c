// Read a running stream from C++ with libzmq alone; the msgpack header is parsed by hand (docs/wire-format.md).
//
//   g++ -std=c++17 -O2 subscriber_minimal.cpp -o subscriber_minimal -lzmq
//   ./subscriber_minimal [ADDRESS [TOPIC [COUNT]]]

#include <zmq.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

// A msgpack value: what it holds says which field counts.
struct Value {
  double number = 0;
  std::string text;
  std::vector<Value> list;
  std::map<std::string, Value> map;
};

// Reads msgpack from [at, end); throws where the bytes run out or hold what no header has.
class Reader {
 public:
  Reader(const uint8_t* at, const uint8_t* end) : at_(at), end_(end) {}

  Value value(int depth = 0) {
    if (depth > 8) throw std::runtime_error("header nested too deep");
    const uint8_t kind = *take(1);
    Value v;
    if (kind <= 0x7f) v.number = kind;
    else if (kind >= 0xe0) v.number = static_cast<int8_t>(kind);
    else if (kind <= 0x8f) map(v, kind & 0x0f, depth);
    else if (kind <= 0x9f) list(v, kind & 0x0f, depth);
    else if (kind <= 0xbf) text(v, kind & 0x1f);
    else switch (kind) {
      case 0xc0: case 0xc2: break;                       // nil, false
      case 0xc3: v.number = 1; break;                    // true
      case 0xc4: case 0xd9: text(v, big(1)); break;      // bin 8, str 8
      case 0xc5: case 0xda: text(v, big(2)); break;
      case 0xc6: case 0xdb: text(v, big(4)); break;
      case 0xca: { uint32_t bits = static_cast<uint32_t>(big(4)); float f; std::memcpy(&f, &bits, 4); v.number = f; break; }
      case 0xcb: { uint64_t bits = big(8); std::memcpy(&v.number, &bits, 8); break; }
      case 0xcc: v.number = static_cast<double>(big(1)); break;
      case 0xcd: v.number = static_cast<double>(big(2)); break;
      case 0xce: v.number = static_cast<double>(big(4)); break;
      case 0xcf: v.number = static_cast<double>(big(8)); break;
      case 0xd0: v.number = static_cast<int8_t>(big(1)); break;
      case 0xd1: v.number = static_cast<int16_t>(big(2)); break;
      case 0xd2: v.number = static_cast<int32_t>(big(4)); break;
      case 0xd3: v.number = static_cast<double>(static_cast<int64_t>(big(8))); break;
      case 0xdc: list(v, big(2), depth); break;
      case 0xdd: list(v, big(4), depth); break;
      case 0xde: map(v, big(2), depth); break;
      case 0xdf: map(v, big(4), depth); break;
      default: throw std::runtime_error("unexpected msgpack type in the header");
    }
    return v;
  }

 private:
  const uint8_t* take(uint64_t n) {
    if (n > static_cast<uint64_t>(end_ - at_)) throw std::runtime_error("the header ends too early");
    at_ += n;
    return at_ - n;
  }
  uint64_t big(int bytes) {
    const uint8_t* from = take(bytes);
    uint64_t v = 0;
    for (int i = 0; i < bytes; ++i) v = v << 8 | from[i];
    return v;
  }
  void text(Value& v, uint64_t n) {
    const uint8_t* from = take(n);
    v.text.assign(reinterpret_cast<const char*>(from), n);
  }
  void list(Value& v, uint64_t n, int depth) {
    for (uint64_t i = 0; i < n; ++i) v.list.push_back(value(depth + 1));
  }
  void map(Value& v, uint64_t n, int depth) {
    for (uint64_t i = 0; i < n; ++i) {
      std::string key = value(depth + 1).text;
      v.map[key] = value(depth + 1);
    }
  }
  const uint8_t* at_;
  const uint8_t* end_;
};

// One message: topic, zero byte, uint32 LE length of the header, header, pixels.
void show(const uint8_t* data, size_t size) {
  const auto* zero = static_cast<const uint8_t*>(std::memchr(data, 0, size));
  if (zero == nullptr || data + size - zero < 5) throw std::runtime_error("no topic or no header length");
  const uint32_t length = zero[1] | zero[2] << 8 | zero[3] << 16 | static_cast<uint32_t>(zero[4]) << 24;
  const uint8_t* start = zero + 5;
  if (length > static_cast<size_t>(data + size - start)) throw std::runtime_error("the header is longer than the message");
  std::map<std::string, Value> header = Reader(start, start + length).value().map;
  const uint8_t* pixels = start + length;
  const auto& shape = header["shape"].list;
  const std::string topic(reinterpret_cast<const char*>(data), zero - data);
  if (header["v"].number != 1) throw std::runtime_error("another version of the wire format");
  if (shape.size() != 3 || header["dtype"].text != "uint8" || header["encoding"].text != "raw") {
    std::printf("%s: no raw 8-bit image\n", topic.c_str());
    return;
  }
  const double height = shape[0].number, width = shape[1].number, channels = shape[2].number;
  const size_t count = data + size - pixels;
  if (height * width * channels != static_cast<double>(count)) throw std::runtime_error("pixels do not fit the shape");
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += pixels[i];
  std::printf("%s %.0f: (%.0f, %.0f, %.0f) over [%.0f, %.0f] us, mean %.2f\n", header["tag"].text.c_str(),
              header["index"].number, height, width, channels, header["t_a_us"].number, header["t_b_us"].number,
              sum / static_cast<double>(count));
}

int main(int argc, char** argv) {
  const char* address = argc > 1 ? argv[1] : "tcp://127.0.0.1:5556";
  const char* topic = argc > 2 ? argv[2] : "frame/";
  long left = argc > 3 ? std::atol(argv[3]) : -1;
  void* context = zmq_ctx_new();
  void* socket = zmq_socket(context, ZMQ_SUB);
  const int newest_only = 1;  // set before connecting, one socket per topic; leave it out to get every frame
  zmq_setsockopt(socket, ZMQ_CONFLATE, &newest_only, sizeof newest_only);
  zmq_setsockopt(socket, ZMQ_SUBSCRIBE, topic, std::strlen(topic));
  if (zmq_connect(socket, address) != 0) {
    std::fprintf(stderr, "cannot connect to %s: %s\n", address, zmq_strerror(zmq_errno()));
    return 2;
  }
  int code = 0;
  while (left != 0 && code == 0) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, socket, 0) < 0) break;
    try {
      show(static_cast<const uint8_t*>(zmq_msg_data(&message)), zmq_msg_size(&message));
      std::fflush(stdout);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "damaged message: %s\n", error.what());
      code = 2;
    }
    zmq_msg_close(&message);
    if (left > 0) --left;
  }
  zmq_close(socket);
  zmq_ctx_term(context);
  return code;
}
