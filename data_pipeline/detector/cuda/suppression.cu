// Suppression of overlapping boxes in many classes: the twin of suppression_kernel.py in CUDA C++.
//
// Two kernels: which box removes which, as rows of bits, without the matrices of floats that
// PyTorch makes for it; and the walk of each class through its boxes, a warp a class, which reads a
// row of bits only for boxes that are kept. Build with -fmad=false: a fused multiply-add would
// round otherwise than torchvision's nms, and boxes at the threshold would fall differently.

#include <cstdint>

namespace {

constexpr int kWord = 64;
constexpr int kLanes = 32;

// Whether box `one` removes box `other`: x1 y1 x2 y2 each, in the arithmetic of torchvision's nms.
__device__ bool removes(const float* one, const float* other, float extra, double overlap,
                        bool inclusive) {
  const float area = (one[2] - one[0] + extra) * (one[3] - one[1] + extra);
  const float other_area = (other[2] - other[0] + extra) * (other[3] - other[1] + extra);
  const float width = fmaxf(fminf(one[2], other[2]) - fmaxf(one[0], other[0]) + extra, 0.0f);
  const float height = fmaxf(fminf(one[3], other[3]) - fmaxf(one[1], other[1]) + extra, 0.0f);
  const float shared = width * height;
  // The quotient is rounded to float32 and only then compared with a double.
  const double quotient = shared / (area + other_area - shared);
  return inclusive ? quotient >= overlap : quotient > overlap;
}

}  // namespace

// bits [count, words]: bit j of row i says that box i removes box j. A thread a word.
extern "C" __global__ void trawl_overlap_bits(const float* boxes, std::uint64_t* bits, int count,
                                              int words, float extra, double overlap,
                                              bool inclusive) {
  const int row = blockIdx.x;
  const int word = blockIdx.y * blockDim.x + threadIdx.x;
  if (word >= words) return;
  std::uint64_t found = 0;
  for (int place = 0; place < kWord && word * kWord + place < count; ++place) {
    const float* other = boxes + 4 * (static_cast<std::int64_t>(word) * kWord + place);
    const bool removed = removes(boxes + 4 * static_cast<std::int64_t>(row), other, extra, overlap,
                                 inclusive);
    found |= static_cast<std::uint64_t>(removed) << place;
  }
  bits[static_cast<std::int64_t>(row) * words + word] = found;
}

// kept [boxes, classes], zeros before: 1 where a class keeps the box of that rank. order [boxes,
// classes]: boxes by falling score, of which the first lengths [classes] enter. A warp a class.
extern "C" __global__ void trawl_walk(const std::uint64_t* bits, const std::int64_t* order,
                                      const std::int64_t* lengths, std::int8_t* kept, int classes,
                                      int words) {
  extern __shared__ std::uint64_t removed[];  // [words]
  const int column = blockIdx.x;
  for (int word = threadIdx.x; word < words; word += kLanes) removed[word] = 0;
  __syncwarp();
  const std::int64_t length = lengths[column];
  for (std::int64_t rank = 0; rank < length; ++rank) {
    const std::int64_t cell = rank * classes + column;
    const std::int64_t box = order[cell];
    const bool alive = ((removed[box / kWord] >> (box % kWord)) & 1) == 0;
    __syncwarp();  // all lanes have read before one writes
    if (alive) {
      const std::uint64_t* own = bits + box * words;
      for (int word = threadIdx.x; word < words; word += kLanes) removed[word] |= own[word];
      if (threadIdx.x == 0) kept[cell] = 1;
    }
    __syncwarp();
  }
}

#ifdef __CUDACC__

// Launches both on `stream`; returns the CUDA error, 0 for none. bits has room for [count, words].
extern "C" int trawl_suppress(const float* boxes, const std::int64_t* order,
                              const std::int64_t* lengths, std::uint64_t* bits, std::int8_t* kept,
                              int count, int classes, float extra, double overlap, bool inclusive,
                              cudaStream_t stream) {
  const int words = (count + kWord - 1) / kWord;
  const dim3 grid(count, (words + kLanes - 1) / kLanes);
  trawl_overlap_bits<<<grid, kLanes, 0, stream>>>(boxes, bits, count, words, extra, overlap,
                                                  inclusive);
  const std::size_t shared = words * sizeof(std::uint64_t);
  trawl_walk<<<classes, kLanes, shared, stream>>>(bits, order, lengths, kept, classes, words);
  return static_cast<int>(cudaGetLastError());
}

#endif
