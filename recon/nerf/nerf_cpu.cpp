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

// The eight corners around a point: entry indices, weights, and each weight's derivative by the three coordinates.
template <typename S> struct Corners {
  int64_t index[8];
  S weight[8];
  S low[3], high[3], scale[3];

  Corners(const Level& level, const S* point) {
    const int64_t last = level.resolution - 1;
    int64_t cell[3];
    for (int a = 0; a < 3; ++a) {
      const S x = point[a] * S(last);
      const bool inside = x > S(0) && x < S(last);  // false for NaN too
      const S clamped = inside ? x : (x >= S(last) ? S(last) : S(0));
      cell[a] = std::min<int64_t>(int64_t(clamped), last - 1);
      high[a] = clamped - S(cell[a]);
      low[a] = S(1) - high[a];
      scale[a] = inside ? S(last) : S(0);
    }
    for (int c = 0; c < 8; ++c) {
      const int64_t x = cell[0] + (c & 1), y = cell[1] + ((c >> 1) & 1), z = cell[2] + ((c >> 2) & 1);
      if (level.hashed) {
        const uint32_t h = uint32_t(x) ^ (uint32_t(y) * 2654435761u) ^ (uint32_t(z) * 805459861u);
        index[c] = level.offset + int64_t(h & uint32_t(level.size - 1));
      } else {
        index[c] = level.offset + x + level.resolution * (y + level.resolution * z);
      }
      weight[c] = ((c & 1) ? high[0] : low[0]) * ((c & 2) ? high[1] : low[1]) * ((c & 4) ? high[2] : low[2]);
    }
  }

  void add_gradient(int c, S value, S* gradient) const {
    const S x = (c & 1) ? high[0] : low[0], y = (c & 2) ? high[1] : low[1], z = (c & 4) ? high[2] : low[2];
    gradient[0] += ((c & 1) ? value : -value) * y * z * scale[0];
    gradient[1] += ((c & 2) ? value : -value) * x * z * scale[1];
    gradient[2] += ((c & 4) ? value : -value) * x * y * scale[2];
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
  const int64_t* slot;  // [points] or null: which table of several a point reads
};

template <typename S, int C> void forward_part(const Shape& shape, const S* points, const S* table, S* out, int64_t part) {
  const int64_t first = shape.points * part / shape.threads, last = shape.points * (part + 1) / shape.threads;
  for (int64_t n = first; n < last; ++n) {
    const S* own = table + (shape.slot ? shape.slot[n] * shape.entries * C : 0);
    for (int64_t l = 0; l < shape.levels; ++l) {
      const Corners<S> corners(shape.level[l], points + 3 * n);
      S sum[C] = {};
      for (int c = 0; c < 8; ++c)
        for (int k = 0; k < C; ++k) sum[k] += corners.weight[c] * own[corners.index[c] * C + k];
      for (int k = 0; k < C; ++k) out[(n * shape.levels + l) * C + k] = sum[k];
    }
  }
}

// One level at a time, so that threads write to different parts of the table.
template <typename S, int C>
void backward_level(const Shape& shape, const S* points, const S* table, const S* grad_out, S* grad_table,
                    S* grad_points, int64_t l) {
  for (int64_t n = 0; n < shape.points; ++n) {
    const Corners<S> corners(shape.level[l], points + 3 * n);
    const int64_t own = shape.slot ? shape.slot[n] * shape.entries * C : 0;
    const S* wanted = grad_out + (n * shape.levels + l) * C;
    S gradient[3] = {};
    for (int c = 0; c < 8; ++c) {
      const int64_t base = own + corners.index[c] * C;
      S along = 0;
      for (int k = 0; k < C; ++k) {
        grad_table[base + k] += corners.weight[c] * wanted[k];
        along += table[base + k] * wanted[k];
      }
      if (grad_points) corners.add_gradient(c, along, gradient);
    }
    if (grad_points)
      for (int a = 0; a < 3; ++a) grad_points[3 * n + a] += gradient[a];
  }
}

template <typename S, int C>
void backward(const Shape& shape, const S* points, const S* table, const S* grad_out, S* grad_table, S* grad_points) {
  const int64_t parts = std::min(shape.threads, shape.levels);
  std::vector<std::vector<S>> partial(parts > 1 && grad_points ? parts - 1 : 0);
  for (auto& buffer : partial) buffer.assign(3 * shape.points, S(0));
  in_parallel(parts, [&](int64_t part) {
    S* own = !grad_points ? nullptr : part == 0 ? grad_points : partial[part - 1].data();
    for (int64_t l = part; l < shape.levels; l += parts)
      backward_level<S, C>(shape, points, table, grad_out, grad_table, own, l);
  });
  for (const auto& buffer : partial)
    for (int64_t i = 0; i < 3 * shape.points; ++i) grad_points[i] += buffer[i];
}

template <typename S, int C> struct Encoding {
  static void forward(const Shape& shape, const S* points, const S* table, S* out) {
    in_parallel(shape.threads, [&](int64_t part) { forward_part<S, C>(shape, points, table, out, part); });
  }
};

template <typename S> void forward_any(const Shape& s, const S* points, const S* table, S* out) {
  switch (s.channels) {
    case 1: return Encoding<S, 1>::forward(s, points, table, out);
    case 2: return Encoding<S, 2>::forward(s, points, table, out);
    case 3: return Encoding<S, 3>::forward(s, points, table, out);
    case 4: return Encoding<S, 4>::forward(s, points, table, out);
    case 8: return Encoding<S, 8>::forward(s, points, table, out);
  }
}
template <typename S>
void backward_any(const Shape& s, const S* points, const S* table, const S* grad_out, S* grad_table, S* grad_points) {
  switch (s.channels) {
    case 1: return backward<S, 1>(s, points, table, grad_out, grad_table, grad_points);
    case 2: return backward<S, 2>(s, points, table, grad_out, grad_table, grad_points);
    case 3: return backward<S, 3>(s, points, table, grad_out, grad_table, grad_points);
    case 4: return backward<S, 4>(s, points, table, grad_out, grad_table, grad_points);
    case 8: return backward<S, 8>(s, points, table, grad_out, grad_table, grad_points);
  }
}

Shape make_shape(const int64_t* size, const int64_t* level, const int64_t* slot) {
  return {size[0], size[1], size[2], size[3], size[4], reinterpret_cast<const Level*>(level), slot};
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
  extern "C" void encode_forward_##NAME(const int64_t* size, const int64_t* level, const int64_t* slot,               \
                                        const S* points, const S* table, S* out) {                                    \
    forward_any<S>(make_shape(size, level, slot), points, table, out);                                                \
  }                                                                                                                   \
  extern "C" void encode_backward_##NAME(const int64_t* size, const int64_t* level, const int64_t* slot,              \
                                         const S* points, const S* table, const S* grad_out, S* grad_table,           \
                                         S* grad_points) {                                                            \
    backward_any<S>(make_shape(size, level, slot), points, table, grad_out, grad_table, grad_points);                 \
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
