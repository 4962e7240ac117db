// RoI pooling of one image whose channels lie last, in CUDA C++: the maxima of roi_pool_kernel.py,
// and the older RoIAlign of `roi_pool.align`, in float32 or bfloat16.
//
// A block computes one bin of one region, a thread four channels beside each other, which it reads
// at once. Build with -fmad=false: a fused multiply-add would round otherwise than torchvision on a
// CPU, whose numbers RoIAlign is held to.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kWide = 4;

using Bfloat16 = std::uint16_t;  // its bits

// Four numbers, as they lie in memory.
template <typename Number>
struct alignas(kWide * sizeof(Number)) Four {
  Number part[kWide];
};

__device__ float wide(float number) { return number; }

__device__ float wide(Bfloat16 number) {
  const std::uint32_t bits = static_cast<std::uint32_t>(number) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

__device__ void narrow(float value, float* number) { *number = value; }

// To the nearest, ties to even; there is no NaN among maps.
__device__ void narrow(float value, Bfloat16* number) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  bits += 0x7fff + ((bits >> 16) & 1);
  *number = static_cast<Bfloat16>(bits >> 16);
}

// Which bin of which region this block computes.
struct Bin {
  std::int64_t place, region;
  int row, column;
};

__device__ Bin bin_of_block(int side) {
  const std::int64_t place = blockIdx.x;
  const int within = static_cast<int>(place % (side * side));
  return {place, place / (side * side), within / side, within % side};
}

template <typename Number>
__device__ void maximum(const Number* cells, Number* pooled, const std::int32_t* top,
                        const std::int32_t* bottom, const std::int32_t* left,
                        const std::int32_t* right, int width, int channels, int side) {
  const Bin bin = bin_of_block(side);
  const std::int64_t row = bin.region * side + bin.row, column = bin.region * side + bin.column;
  const int first_row = top[row], last_row = bottom[row];
  const int first_column = left[column], last_column = right[column];
  const bool empty = last_row <= first_row || last_column <= first_column;
  for (int channel = kWide * threadIdx.x; channel < channels; channel += kWide * blockDim.x) {
    float best[kWide];
    for (float& each : best) each = empty ? 0.0f : -INFINITY;
    for (int y = first_row; y < last_row; ++y) {
      for (int x = first_column; x < last_column; ++x) {
        const std::int64_t cell = static_cast<std::int64_t>(y) * width + x;
        const auto four = *reinterpret_cast<const Four<Number>*>(cells + cell * channels + channel);
        for (int each = 0; each < kWide; ++each)
          best[each] = fmaxf(best[each], wide(four.part[each]));
      }
    }
    Four<Number> result;
    for (int each = 0; each < kWide; ++each) narrow(best[each], &result.part[each]);
    *reinterpret_cast<Four<Number>*>(pooled + bin.place * channels + channel) = result;
  }
}

// Where a point of one axis lies between two cells: their numbers, and the share of the second.
struct Between {
  int low, high;
  float share;
};

__device__ Between between(float place, int cells) {
  place = fmaxf(place, 0.0f);
  const int low = static_cast<int>(place);
  if (low >= cells - 1) return {cells - 1, cells - 1, 0.0f};
  return {low, low + 1, place - low};
}

__device__ bool outside(float place, int cells) { return place < -1.0f || place > cells; }

// As torchvision's roi_align with sampling_ratio=0 and aligned=False, in its order of additions.
template <typename Number>
__device__ void align(const Number* cells, const float* boxes, Number* pooled, int height,
                      int width, int channels, int side, float scale) {
  const Bin bin = bin_of_block(side);
  const float* box = boxes + 4 * bin.region;
  const float left = box[0] * scale, top = box[1] * scale;
  const float bin_width = fmaxf(box[2] * scale - left, 1.0f) / side;
  const float bin_height = fmaxf(box[3] * scale - top, 1.0f) / side;
  // The region's cells a bin, rounded up: points along each axis.
  const int across = static_cast<int>(ceilf(bin_width)), down = static_cast<int>(ceilf(bin_height));
  const float count = static_cast<float>(across * down > 1 ? across * down : 1);
  for (int channel = kWide * threadIdx.x; channel < channels; channel += kWide * blockDim.x) {
    float sum[kWide] = {};
    for (int iy = 0; iy < down; ++iy) {
      const float y = top + bin.row * bin_height + (iy + 0.5f) * bin_height / down;
      if (outside(y, height)) continue;
      const Between row = between(y, height);
      for (int ix = 0; ix < across; ++ix) {
        const float x = left + bin.column * bin_width + (ix + 0.5f) * bin_width / across;
        if (outside(x, width)) continue;
        const Between column = between(x, width);
        const auto at = [&](int line, int place) {
          const std::int64_t cell = static_cast<std::int64_t>(line) * width + place;
          return *reinterpret_cast<const Four<Number>*>(cells + cell * channels + channel);
        };
        const auto one = at(row.low, column.low), two = at(row.low, column.high);
        const auto three = at(row.high, column.low), four = at(row.high, column.high);
        const float upper = 1.0f - row.share, nearer = 1.0f - column.share;
        for (int each = 0; each < kWide; ++each)
          sum[each] += upper * nearer * wide(one.part[each]) +
                       upper * column.share * wide(two.part[each]) +
                       row.share * nearer * wide(three.part[each]) +
                       row.share * column.share * wide(four.part[each]);
      }
    }
    Four<Number> result;
    for (int each = 0; each < kWide; ++each) narrow(sum[each] / count, &result.part[each]);
    *reinterpret_cast<Four<Number>*>(pooled + bin.place * channels + channel) = result;
  }
}

}  // namespace

// cells [height, width, channels], pooled [regions, side, side, channels], channels a multiple of 4
// and all addresses of 16 bytes; edges int32 [regions, side]: first and past-the-last cells.
#define TRAWL_MAXIMUM(name, Number)                                                             \
  extern "C" __global__ void name(const Number* cells, Number* pooled, const std::int32_t* top, \
                                  const std::int32_t* bottom, const std::int32_t* left,         \
                                  const std::int32_t* right, int width, int channels,           \
                                  int side) {                                                   \
    maximum(cells, pooled, top, bottom, left, right, width, channels, side);                    \
  }
TRAWL_MAXIMUM(trawl_maximum_float32, float)
TRAWL_MAXIMUM(trawl_maximum_bfloat16, Bfloat16)

// boxes [regions, 4], pixels of the image; scale: cells a pixel.
#define TRAWL_ALIGN(name, Number)                                                           \
  extern "C" __global__ void name(const Number* cells, const float* boxes, Number* pooled,  \
                                  int height, int width, int channels, int side,            \
                                  float scale) {                                            \
    align(cells, boxes, pooled, height, width, channels, side, scale);                      \
  }
TRAWL_ALIGN(trawl_align_float32, float)
TRAWL_ALIGN(trawl_align_bfloat16, Bfloat16)

#ifdef __CUDACC__

namespace {
int threads_for(int channels) {
  const int wanted = (channels / kWide + 31) / 32 * 32;
  return wanted < 256 ? wanted : 256;
}
}  // namespace

// Both launch on `stream` and return the CUDA error, 0 for none; narrow: the numbers are bfloat16.
extern "C" int trawl_roi_pool(const void* cells, void* pooled, const std::int32_t* top,
                              const std::int32_t* bottom, const std::int32_t* left,
                              const std::int32_t* right, int regions, int width, int channels,
                              int side, bool narrow, cudaStream_t stream) {
  const int blocks = regions * side * side, threads = threads_for(channels);
  if (narrow)
    trawl_maximum_bfloat16<<<blocks, threads, 0, stream>>>(
        static_cast<const Bfloat16*>(cells), static_cast<Bfloat16*>(pooled), top, bottom, left,
        right, width, channels, side);
  else
    trawl_maximum_float32<<<blocks, threads, 0, stream>>>(
        static_cast<const float*>(cells), static_cast<float*>(pooled), top, bottom, left, right,
        width, channels, side);
  return static_cast<int>(cudaGetLastError());
}

extern "C" int trawl_roi_align(const void* cells, const float* boxes, void* pooled, int regions,
                               int height, int width, int channels, int side, float scale,
                               bool narrow, cudaStream_t stream) {
  const int blocks = regions * side * side, threads = threads_for(channels);
  if (narrow)
    trawl_align_bfloat16<<<blocks, threads, 0, stream>>>(
        static_cast<const Bfloat16*>(cells), boxes, static_cast<Bfloat16*>(pooled), height, width,
        channels, side, scale);
  else
    trawl_align_float32<<<blocks, threads, 0, stream>>>(static_cast<const float*>(cells), boxes,
                                                        static_cast<float*>(pooled), height, width,
                                                        channels, side, scale);
  return static_cast<int>(cudaGetLastError());
}

#endif
