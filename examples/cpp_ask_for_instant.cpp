// What did the camera see 60 ms ago, by the robot's clock? Also the newest image of the plan, and every one.
//
//   g++ -std=c++17 -O2 cpp_ask_for_instant.cpp -o cpp_ask_for_instant -lzmq
//   ./cpp_ask_for_instant [ADDRESS CONTROL [TOPIC]]

#include <chrono>
#include <cstdio>

#include "nire_live.hpp"

int main(int argc, char** argv) try {
  const std::string address = argc > 2 ? argv[1] : "tcp://127.0.0.1:5556";
  const std::string control = argc > 2 ? argv[2] : "tcp://127.0.0.1:5557";
  const std::string topic = argc > 3 ? argv[3] : "frame/upsample";
  for (auto mode : {nire::Mode::newest, nire::Mode::every}) {
    nire::Subscriber subscriber(address, topic, mode);
    if (auto frame = subscriber.receive(10000))
      std::printf("%s %lld: %lld x %lld\n", frame->topic.c_str(), static_cast<long long>(frame->index),
                  static_cast<long long>(frame->width()), static_cast<long long>(frame->height()));
  }
  nire::Stream stream(address, control);
  const auto now = std::chrono::system_clock::now() - std::chrono::milliseconds(60);
  const int64_t asked_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count();
  const nire::Frame frame = stream.expose_wall(asked_ns);
  std::printf("%lld ns after what was asked, at most %.0f us off\n", static_cast<long long>(*frame.wall_ns - asked_ns),
              frame.wall_uncertainty_us.value_or(-1));
} catch (const nire::NotCovered& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 3;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
