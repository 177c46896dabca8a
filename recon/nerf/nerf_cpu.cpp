// Multi-resolution grid encoding (forward, backward) and ray marching through occupied voxels on the CPU.
//
// Plain C interface, no torch headers: it compiles in a second. The Python side keeps every tensor alive over a call.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

struct Level {
  int64_t resolution;  // vertices per axis
  int64_t offset;      // first entry in the table
  int64_t size;        // entries; a power of two where hashed
  int64_t hashed;
};

constexpr uint32_t PRIME[4] = {1u, 2654435761u, 805459861u, 3674653429u};

// The 2^D corners around a point: entry indices, weights, and each weight's derivative by the coordinates.
template <typename S, int D> struct Corners {
  static constexpr int COUNT = 1 << D;
  int64_t index[COUNT];
  S weight[COUNT];
  S low[D], high[D], scale[D];

  Corners(const Level& level, S cells, S shift, const S* point) {
    int64_t cell[D];
    for (int a = 0; a < D; ++a) {
      const bool inside = point[a] > S(0) && point[a] < S(1);  // false for NaN too
      const S x = (inside ? point[a] : (point[a] >= S(1) ? S(1) : S(0))) * cells + shift;
      cell[a] = int64_t(x);
      high[a] = x - S(cell[a]);
      low[a] = S(1) - high[a];
      scale[a] = inside ? cells : S(0);
    }
    for (int c = 0; c < COUNT; ++c) {
      S product = 1;
      for (int a = 0; a < D; ++a) product *= ((c >> a) & 1) ? high[a] : low[a];
      weight[c] = product;
      if (level.hashed) {
        uint32_t h = 0;
        for (int a = 0; a < D; ++a) h ^= uint32_t(cell[a] + ((c >> a) & 1)) * PRIME[a];
        index[c] = level.offset + int64_t(h & uint32_t(level.size - 1));
      } else {
        int64_t place = 0;
        for (int a = D - 1; a >= 0; --a) place = place * level.resolution + cell[a] + ((c >> a) & 1);
        index[c] = level.offset + (place < level.size ? place : place - level.size);
      }
    }
  }

  void add_gradient(int c, S value, S* gradient) const {
    for (int a = 0; a < D; ++a) {
      S others = scale[a];
      for (int b = 0; b < D; ++b)
        if (b != a) others *= ((c >> b) & 1) ? high[b] : low[b];
      gradient[a] += (((c >> a) & 1) ? value : -value) * others;
    }
  }
};

template <typename Work> void in_parallel(int64_t parts, const Work& work) {
  std::vector<std::thread> threads;
  for (int64_t part = 1; part < parts; ++part) threads.emplace_back([&work, part] { work(part); });
  work(0);
  for (auto& thread : threads) thread.join();
}

struct Shape {
  int64_t points, levels, channels, entries, threads;  // entries: of one slot's table
  const Level* level;
  const double* scale;   // cells per unit length of each level, then the shift in cells
  const int64_t* slot;  // [points] or null: which table of several a point reads
};

template <typename S, int C, int D> void forward_part(const Shape& shape, const S* points, const S* table, S* out, int64_t part) {
  const int64_t first = shape.points * part / shape.threads, last = shape.points * (part + 1) / shape.threads;
  for (int64_t n = first; n < last; ++n) {
    const S* own = table + (shape.slot ? shape.slot[n] * shape.entries * C : 0);
    for (int64_t l = 0; l < shape.levels; ++l) {
      const Corners<S, D> corners(shape.level[l], S(shape.scale[l]), S(shape.scale[shape.levels]), points + D * n);
      S sum[C] = {};
      for (int c = 0; c < corners.COUNT; ++c)
        for (int k = 0; k < C; ++k) sum[k] += corners.weight[c] * own[corners.index[c] * C + k];
      for (int k = 0; k < C; ++k) out[(n * shape.levels + l) * C + k] = sum[k];
    }
  }
}

// One level at a time, so that threads write to different parts of the table.
template <typename S, int C, int D>
void backward_level(const Shape& shape, const S* points, const S* table, const S* grad_out, S* grad_table,
                    S* grad_points, int64_t l) {
  for (int64_t n = 0; n < shape.points; ++n) {
    const Corners<S, D> corners(shape.level[l], S(shape.scale[l]), S(shape.scale[shape.levels]), points + D * n);
    const int64_t own = shape.slot ? shape.slot[n] * shape.entries * C : 0;
    const S* wanted = grad_out + (n * shape.levels + l) * C;
    S gradient[D] = {};
    for (int c = 0; c < corners.COUNT; ++c) {
      const int64_t base = own + corners.index[c] * C;
      S along = 0;
      for (int k = 0; k < C; ++k) {
        grad_table[base + k] += corners.weight[c] * wanted[k];
        along += table[base + k] * wanted[k];
      }
      if (grad_points) corners.add_gradient(c, along, gradient);
    }
    if (grad_points)
      for (int a = 0; a < D; ++a) grad_points[D * n + a] += gradient[a];
  }
}

template <typename S, int C, int D>
void backward(const Shape& shape, const S* points, const S* table, const S* grad_out, S* grad_table, S* grad_points) {
  const int64_t parts = std::min(shape.threads, shape.levels);
  std::vector<std::vector<S>> partial(parts > 1 && grad_points ? parts - 1 : 0);
  for (auto& buffer : partial) buffer.assign(D * shape.points, S(0));
  in_parallel(parts, [&](int64_t part) {
    S* own = !grad_points ? nullptr : part == 0 ? grad_points : partial[part - 1].data();
    for (int64_t l = part; l < shape.levels; l += parts)
      backward_level<S, C, D>(shape, points, table, grad_out, grad_table, own, l);
  });
  for (const auto& buffer : partial)
    for (int64_t i = 0; i < D * shape.points; ++i) grad_points[i] += buffer[i];
}

template <typename S, int C, int D>
void forward(const Shape& shape, const S* points, const S* table, S* out) {
  in_parallel(shape.threads, [&](int64_t part) { forward_part<S, C, D>(shape, points, table, out, part); });
}

template <typename S, int D> void forward_any(const Shape& s, const S* points, const S* table, S* out) {
  switch (s.channels) {
    case 1: return forward<S, 1, D>(s, points, table, out);
    case 2: return forward<S, 2, D>(s, points, table, out);
    case 3: return forward<S, 3, D>(s, points, table, out);
    case 4: return forward<S, 4, D>(s, points, table, out);
    case 8: return forward<S, 8, D>(s, points, table, out);
  }
}
template <typename S, int D>
void backward_any(const Shape& s, const S* points, const S* table, const S* grad_out, S* grad_table, S* grad_points) {
  switch (s.channels) {
    case 1: return backward<S, 1, D>(s, points, table, grad_out, grad_table, grad_points);
    case 2: return backward<S, 2, D>(s, points, table, grad_out, grad_table, grad_points);
    case 3: return backward<S, 3, D>(s, points, table, grad_out, grad_table, grad_points);
    case 4: return backward<S, 4, D>(s, points, table, grad_out, grad_table, grad_points);
    case 8: return backward<S, 8, D>(s, points, table, grad_out, grad_table, grad_points);
  }
}

// size: points, levels, channels, entries, threads, dimensions.
Shape make_shape(const int64_t* size, const int64_t* level, const double* scale, const int64_t* slot) {
  return {size[0], size[1], size[2], size[3], size[4], reinterpret_cast<const Level*>(level), scale, slot};
}

// A voxel block per slot over the cube [low, low + side]^3.
struct Block {
  int64_t resolution;
  float low[3], side;

  // Part of the ray inside the cube.
  void clip(const float* origin, const float* direction, float& near, float& far) const {
    near = 0;
    far = 1e9f;
    for (int a = 0; a < 3; ++a) {
      const float inverse = 1.0f / (std::abs(direction[a]) < 1e-9f ? 1e-9f : direction[a]);
      const float one = (low[a] - origin[a]) * inverse, other = (low[a] + side - origin[a]) * inverse;
      near = std::max(near, std::min(one, other));
      far = std::min(far, std::max(one, other));
    }
  }
  int64_t voxel(const float* origin, const float* direction, float t) const {
    int64_t cell[3];
    const float scale = float(resolution) / side;
    for (int a = 0; a < 3; ++a) {
      const float x = (origin[a] + t * direction[a] - low[a]) * scale;
      cell[a] = std::min<int64_t>(std::max<int64_t>(int64_t(x), 0), resolution - 1);
    }
    return cell[0] + resolution * (cell[1] + resolution * cell[2]);
  }
};

}  // namespace

#define VIEWTIME_ENCODING(S, NAME)                                                                                    \
  extern "C" void encode_forward_##NAME(const int64_t* size, const int64_t* level, const double* scale,               \
                                        const int64_t* slot, const S* points, const S* table, S* out) {               \
    const Shape shape = make_shape(size, level, scale, slot);                                                         \
    size[5] == 3 ? forward_any<S, 3>(shape, points, table, out) : forward_any<S, 4>(shape, points, table, out);       \
  }                                                                                                                   \
  extern "C" void encode_backward_##NAME(const int64_t* size, const int64_t* level, const double* scale,              \
                                         const int64_t* slot, const S* points, const S* table, const S* grad_out,     \
                                         S* grad_table, S* grad_points) {                                             \
    const Shape shape = make_shape(size, level, scale, slot);                                                         \
    size[5] == 3 ? backward_any<S, 3>(shape, points, table, grad_out, grad_table, grad_points)                        \
                 : backward_any<S, 4>(shape, points, table, grad_out, grad_table, grad_points);                       \
  }
VIEWTIME_ENCODING(float, float32)
VIEWTIME_ENCODING(double, float64)

// Regular steps along each ray, kept where the voxel is occupied, until the known optical depth reaches `stop`.
// size: rays, resolution, most samples per ray, threads. number: low x, y, z, side, step, stop.
// Sample i of ray r goes to times[r * most + i]; counts[r] is their number.
extern "C" void march(const int64_t* size, const float* number, const float* origins, const float* directions,
                      const float* jitter, const int64_t* slot, const uint8_t* occupied, const float* density,
                      float* times, int64_t* counts) {
  const int64_t rays = size[0], most = size[2], threads = size[3];
  const Block block{size[1], {number[0], number[1], number[2]}, number[3]};
  const float step = number[4], stop = number[5];
  const int64_t volume = block.resolution * block.resolution * block.resolution;
  in_parallel(threads, [&](int64_t part) {
    for (int64_t r = rays * part / threads; r < rays * (part + 1) / threads; ++r) {
      const float *origin = origins + 3 * r, *direction = directions + 3 * r;
      float near, far, depth = 0;
      block.clip(origin, direction, near, far);
      int64_t count = 0;
      const int64_t last = far > near ? int64_t((far - near) / step) + 1 : 0;
      for (int64_t i = 0; i < last && count < most && depth < stop; ++i) {
        const float t = near + (float(i) + jitter[r]) * step;
        if (t >= far) break;
        const int64_t voxel = slot[r] * volume + block.voxel(origin, direction, t);
        if (!occupied[voxel]) continue;
        depth += density[voxel] * step;
        times[r * most + count++] = t;
      }
      counts[r] = count;
    }
  });
}
