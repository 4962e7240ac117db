// Enough of CUDA C++ to run a kernel of one warp a block on a CPU: lanes are threads, the warp's
// barrier is a barrier. Included before the source, which is compiled as C++20.
#pragma once
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __shared__

struct Index { int x, y, z; };
inline thread_local Index threadIdx{}, blockIdx{};
inline Index blockDim{32, 1, 1};
inline std::barrier<> lanes(32);
inline void __syncwarp() { lanes.arrive_and_wait(); }
namespace { std::uint64_t removed[1024]; }

template <typename Kernel> void on_threads(int blocks_x, int blocks_y, Kernel kernel) {
  std::vector<std::thread> warp;
  for (int lane = 0; lane < 32; ++lane)
    warp.emplace_back([=] {
      for (int y = 0; y < blocks_y; ++y)
        for (int x = 0; x < blocks_x; ++x) {
          threadIdx = {lane, 0, 0};
          blockIdx = {x, y, 0};
          kernel();
          lanes.arrive_and_wait();
        }
    });
  for (auto& lane : warp) lane.join();
}
