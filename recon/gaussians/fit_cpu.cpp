// What a step of the Gaussian fit computes beside drawing, each in one pass with its gradient: covariances, points
// carried by control points, the energy of their motion, how far pictures are from their targets. One thread; arrays
// are contiguous, shapes in the comments. The plain versions stand in canonical.py, motion.py and fit.py.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr int kLanes = 8;

// R(v) = c I + a [v]x + b v v^T of an axis-angle vector, and the derivatives of c, a, b along v divided by v.
template <typename S> struct Turn {
  S v[3], c, a, b, dc, da, db, matrix[9];
  explicit Turn(const S* vector) {
    double square = 1e-12;
    for (int i = 0; i < 3; ++i) v[i] = vector[i], square += double(v[i]) * double(v[i]);
    if (square < 1e-6) {  // the quotients lose their digits there
      c = S(1 - square / 2), a = S(1 - square / 6), b = S(0.5 - square / 24);
      da = S(-1.0 / 3 + square / 30), db = S(-1.0 / 12 + square / 180);
    } else {
      const double angle = std::sqrt(square), cosine = std::cos(angle), sine = std::sin(angle) / angle;
      const double half = (1 - cosine) / square;
      c = S(cosine), a = S(sine), b = S(half), da = S((cosine - sine) / square), db = S((sine - 2 * half) / square);
    }
    dc = -a;
    const S x = a * v[0], y = a * v[1], z = a * v[2];
    const S skew[9] = {0, -z, y, z, 0, -x, -y, x, 0};
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) matrix[3 * i + j] = (i == j ? c : S(0)) + skew[3 * i + j] + b * v[i] * v[j];
  }
  // Adds to grad [3] what a gradient [9] of the matrix is worth.
  void pull(const S* g, S* grad) const {
    const S trace = g[0] + g[4] + g[8];
    const S turn[3] = {g[7] - g[5], g[2] - g[6], g[3] - g[1]};
    S outer = 0, twist = 0, along[3];
    for (int i = 0; i < 3; ++i) {
      twist += v[i] * turn[i], along[i] = 0;
      for (int j = 0; j < 3; ++j) outer += g[3 * i + j] * v[i] * v[j], along[i] += (g[3 * i + j] + g[3 * j + i]) * v[j];
    }
    const S radial = dc * trace + da * twist + db * outer;
    for (int i = 0; i < 3; ++i) grad[i] += radial * v[i] + a * turn[i] + b * along[i];
  }
};

// Rows of an affine map of one control point: [R | centre + translation - R centre], 12 numbers.
template <typename S> void affine_map(const Turn<S>& turn, const S* centre, const S* translation, S* map) {
  for (int i = 0; i < 3; ++i) {
    const S* row = turn.matrix + 3 * i;
    for (int j = 0; j < 3; ++j) map[4 * i + j] = row[j];
    map[4 * i + 3] = centre[i] + translation[i] - (row[0] * centre[0] + row[1] * centre[1] + row[2] * centre[2]);
  }
}

template <typename S> void softmax(const S* logits, int64_t Q, S* weights) {
  const S most = *std::max_element(logits, logits + Q);
  S total = 0;
  for (int64_t q = 0; q < Q; ++q) total += weights[q] = std::exp(logits[q] - most);
  for (int64_t q = 0; q < Q; ++q) weights[q] /= total;
}

// size: N, M, Q, K. position [N, 3], logits [N, Q], index [N, Q], centres [M, 3], translation and rotation [F, M, 3],
// frames [K] -> linear [K, N, 9], moved [K, N, 3].
template <typename S>
void carry_forward(const int64_t* size, const S* position, const S* logits, const int64_t* index, const S* centres,
                   const S* translation, const S* rotation, const int64_t* frames, S* linear, S* moved) {
  const int64_t N = size[0], M = size[1], Q = size[2], K = size[3];
  std::vector<S> maps(M * 12), weights(N * Q);
  for (int64_t n = 0; n < N; ++n) softmax(logits + n * Q, Q, &weights[n * Q]);
  for (int64_t k = 0; k < K; ++k) {
    const S *t = translation + frames[k] * M * 3, *r = rotation + frames[k] * M * 3;
    for (int64_t m = 0; m < M; ++m) affine_map(Turn<S>(r + 3 * m), centres + 3 * m, t + 3 * m, &maps[12 * m]);
    for (int64_t n = 0; n < N; ++n) {
      S map[12] = {};
      for (int64_t q = 0; q < Q; ++q)
        for (int e = 0; e < 12; ++e) map[e] += weights[n * Q + q] * maps[12 * index[n * Q + q] + e];
      const S* p = position + 3 * n;
      S *l = linear + 9 * (k * N + n), *x = moved + 3 * (k * N + n);
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) l[3 * i + j] = map[4 * i + j];
        x[i] = map[4 * i] * p[0] + map[4 * i + 1] * p[1] + map[4 * i + 2] * p[2] + map[4 * i + 3];
      }
    }
  }
}

// As carry_forward, with the gradients of its results, into zeroed gradients of position, logits, translation, rotation.
template <typename S>
void carry_backward(const int64_t* size, const S* position, const S* logits, const int64_t* index, const S* centres,
                    const S* translation, const S* rotation, const int64_t* frames, const S* linear,
                    const S* grad_linear, const S* grad_moved, S* to_position, S* to_logits, S* to_translation,
                    S* to_rotation) {
  const int64_t N = size[0], M = size[1], Q = size[2], K = size[3];
  std::vector<S> maps(M * 12), pulls(M * 12), weights(N * Q), to_weights(N * Q, S(0));
  for (int64_t n = 0; n < N; ++n) softmax(logits + n * Q, Q, &weights[n * Q]);
  for (int64_t k = 0; k < K; ++k) {
    const int64_t first = frames[k] * M * 3;
    std::vector<Turn<S>> turns;
    turns.reserve(M);
    for (int64_t m = 0; m < M; ++m) {
      turns.emplace_back(rotation + first + 3 * m);
      affine_map(turns[m], centres + 3 * m, translation + first + 3 * m, &maps[12 * m]);
    }
    std::fill(pulls.begin(), pulls.end(), S(0));
    for (int64_t n = 0; n < N; ++n) {
      const S *p = position + 3 * n, *l = linear + 9 * (k * N + n);
      const S *gl = grad_linear + 9 * (k * N + n), *gm = grad_moved + 3 * (k * N + n);
      S pull[12];
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) pull[4 * i + j] = gl[3 * i + j] + gm[i] * p[j];
        pull[4 * i + 3] = gm[i];
        to_position[3 * n + i] += l[i] * gm[0] + l[3 + i] * gm[1] + l[6 + i] * gm[2];
      }
      for (int64_t q = 0; q < Q; ++q) {
        const int64_t m = 12 * index[n * Q + q];
        S worth = 0;
        for (int e = 0; e < 12; ++e) worth += pull[e] * maps[m + e], pulls[m + e] += weights[n * Q + q] * pull[e];
        to_weights[n * Q + q] += worth;
      }
    }
    for (int64_t m = 0; m < M; ++m) {
      const S *g = &pulls[12 * m], *c = centres + 3 * m;
      S matrix[9];
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) matrix[3 * i + j] = g[4 * i + j] - g[4 * i + 3] * c[j];
        to_translation[first + 3 * m + i] += g[4 * i + 3];
      }
      turns[m].pull(matrix, to_rotation + first + 3 * m);
    }
  }
  for (int64_t n = 0; n < N; ++n) {
    const S *w = &weights[n * Q], *g = &to_weights[n * Q];
    S mean = 0;
    for (int64_t q = 0; q < Q; ++q) mean += w[q] * g[q];
    for (int64_t q = 0; q < Q; ++q) to_logits[n * Q + q] = w[q] * (g[q] - mean);
  }
}

// size: F, M, ring, K. centres [M, 3], around [M, ring], translation and rotation [F, M, 3], frames [K]. Returns
// rigid / edge^2 + bend_weight * bend + jerk_weight * jerk and adds its gradients to zeroed arrays [F, M, 3].
template <typename S>
S energy(const int64_t* size, const S* centres, const int64_t* around, S edge, S bend_weight, S jerk_weight,
         const S* translation, const S* rotation, const int64_t* frames, S* to_translation, S* to_rotation) {
  const int64_t F = size[0], M = size[1], ring = size[2], K = size[3];
  const S share = S(1) / S(std::max<int64_t>(1, K * M * ring)), stiff = share / (edge * edge);
  double value = 0;
  int64_t inner = 0;
  for (int64_t k = 0; k < K; ++k) {
    inner += frames[k] > 0 && frames[k] < F - 1;
    const int64_t first = frames[k] * M * 3;
    const S *t = translation + first, *r = rotation + first;
    S *to_t = to_translation + first, *to_r = to_rotation + first;
    for (int64_t m = 0; m < M; ++m) {
      const Turn<S> turn(r + 3 * m);
      S matrix[9] = {};
      for (int64_t e = 0; e < ring; ++e) {
        const int64_t o = around[m * ring + e];
        S rest[3], off[3];
        for (int i = 0; i < 3; ++i) rest[i] = centres[3 * o + i] - centres[3 * m + i];
        for (int i = 0; i < 3; ++i) {
          const S* row = turn.matrix + 3 * i;
          const S turned = row[0] * rest[0] + row[1] * rest[1] + row[2] * rest[2];
          off[i] = rest[i] + t[3 * o + i] - t[3 * m + i] - turned;
          const S bend = r[3 * o + i] - r[3 * m + i];
          value += double(stiff * off[i] * off[i] + bend_weight * share * bend * bend);
          const S pull = 2 * stiff * off[i], twist = 2 * bend_weight * share * bend;
          to_t[3 * o + i] += pull, to_t[3 * m + i] -= pull, to_r[3 * o + i] += twist, to_r[3 * m + i] -= twist;
          for (int j = 0; j < 3; ++j) matrix[3 * i + j] -= pull * rest[j];
        }
      }
      turn.pull(matrix, to_r + 3 * m);
    }
  }
  const S each = jerk_weight / S(std::max<int64_t>(1, inner * M));
  for (int64_t k = 0; k < K; ++k) {
    if (frames[k] <= 0 || frames[k] >= F - 1) continue;
    const int64_t step = 3 * M;
    for (int64_t at = frames[k] * step; at < (frames[k] + 1) * step; ++at) {
      const S bent = translation[at - step] - 2 * translation[at] + translation[at + step];
      const S spun = rotation[at - step] - 2 * rotation[at] + rotation[at + step];
      value += double(each * (bent * bent / (edge * edge) + spun * spun));
      const S pull = 2 * each * bent / (edge * edge), twist = 2 * each * spun;
      to_translation[at - step] += pull, to_translation[at] -= 2 * pull, to_translation[at + step] += pull;
      to_rotation[at - step] += twist, to_rotation[at] -= 2 * twist, to_rotation[at + step] += twist;
    }
  }
  return S(value);
}

// B cells of four planes of `pixels`: drawn [B, 4, pixels] (premultiplied colour, alpha), images [cells, 4, pixels]
// (colour on white, mask), cells [B]. means [B, 3]: of |colour|, colour^2 and mask^2 of the difference on white.
template <typename S>
void cell_errors(int64_t B, int64_t pixels, const S* drawn, const S* images, const int64_t* cells, S* means) {
  for (int64_t b = 0; b < B; ++b) {
    const S *alpha = drawn + (4 * b + 3) * pixels, *target = images + 4 * cells[b] * pixels;
    double far = 0, square = 0, mask = 0;
    for (int64_t from = 0; from < pixels; from += 512) {  // a block is summed in S, blocks in double
      const int64_t to = std::min(pixels, from + 512);
      S lanes[3][kLanes] = {};
      for (int64_t p = from; p < to; p += kLanes) {
        const int count = int(std::min<int64_t>(kLanes, to - p));
        for (int l = 0; l < count; ++l) {
          const S m = alpha[p + l] - target[3 * pixels + p + l];
          lanes[2][l] += m * m;
        }
        for (int c = 0; c < 3; ++c) {
          const S *colour = drawn + (4 * b + c) * pixels + p, *wanted = target + c * pixels + p;
          for (int l = 0; l < count; ++l) {
            const S d = colour[l] + (1 - alpha[p + l]) - wanted[l];
            lanes[0][l] += std::abs(d), lanes[1][l] += d * d;
          }
        }
      }
      for (int l = 0; l < kLanes; ++l) far += lanes[0][l], square += lanes[1][l], mask += lanes[2][l];
    }
    means[3 * b] = S(far / (3 * pixels)), means[3 * b + 1] = S(square / (3 * pixels)), means[3 * b + 2] = S(mask / pixels);
  }
}

// As cell_errors, with the gradients [B, 3] of its means, into the gradient of `drawn`.
template <typename S>
void cell_errors_backward(int64_t B, int64_t pixels, const S* drawn, const S* images, const int64_t* cells,
                          const S* grad, S* to_drawn) {
  for (int64_t b = 0; b < B; ++b) {
    const S *alpha = drawn + (4 * b + 3) * pixels, *target = images + 4 * cells[b] * pixels;
    const S flat = grad[3 * b] / S(3 * pixels), steep = 2 * grad[3 * b + 1] / S(3 * pixels);
    const S covering = 2 * grad[3 * b + 2] / S(pixels);
    S* to_alpha = to_drawn + (4 * b + 3) * pixels;
    for (int64_t p = 0; p < pixels; ++p) to_alpha[p] = covering * (alpha[p] - target[3 * pixels + p]);
    for (int c = 0; c < 3; ++c) {
      const S *colour = drawn + (4 * b + c) * pixels, *wanted = target + c * pixels;
      S* to_colour = to_drawn + (4 * b + c) * pixels;
      for (int64_t p = 0; p < pixels; ++p) {
        const S d = colour[p] + (1 - alpha[p]) - wanted[p];
        const S slope = steep * d + (d > 0 ? flat : d < 0 ? -flat : S(0));
        to_colour[p] = slope, to_alpha[p] -= slope;
      }
    }
  }
}

// quaternion [N, 4] (w, x, y, z; any length) and log_scale [N, 3] -> covariance [N, 9]; `axes` [9] are its square root.
template <typename S> void axes_of(const S* q, const S* log_scale, S* rotation, S* axes) {
  const S w = q[0], x = q[1], y = q[2], z = q[3], length = w * w + x * x + y * y + z * z, two = 2 / length;
  const S values[9] = {1 - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y),
                       two * (x * y + w * z), 1 - two * (x * x + z * z), two * (y * z - w * x),
                       two * (x * z - w * y), two * (y * z + w * x), 1 - two * (x * x + y * y)};
  for (int j = 0; j < 3; ++j) {
    const S size = std::exp(log_scale[j]);
    for (int i = 0; i < 3; ++i) rotation[3 * i + j] = values[3 * i + j], axes[3 * i + j] = values[3 * i + j] * size;
  }
}

template <typename S> void covariance_forward(int64_t N, const S* quaternion, const S* log_scale, S* covariance) {
  for (int64_t n = 0; n < N; ++n) {
    S rotation[9], a[9], *out = covariance + 9 * n;
    axes_of(quaternion + 4 * n, log_scale + 3 * n, rotation, a);
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) out[3 * i + j] = a[3 * i] * a[3 * j] + a[3 * i + 1] * a[3 * j + 1] + a[3 * i + 2] * a[3 * j + 2];
  }
}

template <typename S>
void covariance_backward(int64_t N, const S* quaternion, const S* log_scale, const S* grad, S* to_quaternion,
                         S* to_log_scale) {
  for (int64_t n = 0; n < N; ++n) {
    const S *q = quaternion + 4 * n, *g = grad + 9 * n;
    S rotation[9], a[9], pull[9], turn[9];
    axes_of(q, log_scale + 3 * n, rotation, a);
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        pull[3 * i + j] = 0;
        for (int k = 0; k < 3; ++k) pull[3 * i + j] += (g[3 * i + k] + g[3 * k + i]) * a[3 * k + j];
      }
    for (int j = 0; j < 3; ++j) {
      S along = 0;
      const S size = std::exp(log_scale[3 * n + j]);
      for (int i = 0; i < 3; ++i) along += pull[3 * i + j] * a[3 * i + j], turn[3 * i + j] = pull[3 * i + j] * size;
      to_log_scale[3 * n + j] = along;
    }
    // R = 1 + 2 (w [v]x + v v^T - |v|^2) / |q|^2: the length's share is what lies along q.
    const S w = q[0], *v = q + 1, length = w * w + v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    const S spin[3] = {turn[7] - turn[5], turn[2] - turn[6], turn[3] - turn[1]};
    const S trace = turn[0] + turn[4] + turn[8];
    S to[4] = {spin[0] * v[0] + spin[1] * v[1] + spin[2] * v[2], 0, 0, 0};
    for (int i = 0; i < 3; ++i) {
      S across = 0;
      for (int j = 0; j < 3; ++j) across += (turn[3 * i + j] + turn[3 * j + i]) * v[j];
      to[1 + i] = w * spin[i] + across - 2 * trace * v[i];
    }
    S radial = 0;
    for (int i = 0; i < 4; ++i) to[i] *= 2 / length, radial += to[i] * q[i];
    for (int i = 0; i < 4; ++i) to_quaternion[4 * n + i] = to[i] - radial * q[i] / length;
  }
}

}  // namespace

#define ENTRY(S, suffix)                                                                                              \
  extern "C" void carry_forward_##suffix(const int64_t* size, const S* position, const S* logits,                     \
      const int64_t* index, const S* centres, const S* translation, const S* rotation, const int64_t* frames,         \
      S* linear, S* moved) {                                                                                          \
    carry_forward<S>(size, position, logits, index, centres, translation, rotation, frames, linear, moved);           \
  }                                                                                                                   \
  extern "C" void carry_backward_##suffix(const int64_t* size, const S* position, const S* logits,                    \
      const int64_t* index, const S* centres, const S* translation, const S* rotation, const int64_t* frames,         \
      const S* linear, const S* grad_linear, const S* grad_moved, S* to_position, S* to_logits, S* to_translation,    \
      S* to_rotation) {                                                                                               \
    carry_backward<S>(size, position, logits, index, centres, translation, rotation, frames, linear, grad_linear,     \
                      grad_moved, to_position, to_logits, to_translation, to_rotation);                               \
  }                                                                                                                   \
  extern "C" void energy_##suffix(const int64_t* size, const S* centres, const int64_t* around, const S* weights,     \
      const S* translation, const S* rotation, const int64_t* frames, S* value, S* to_translation, S* to_rotation) {  \
    *value = energy<S>(size, centres, around, weights[0], weights[1], weights[2], translation, rotation, frames,      \
                       to_translation, to_rotation);                                                                  \
  }                                                                                                                   \
  extern "C" void cell_errors_##suffix(const int64_t* size, const S* drawn, const S* images, const int64_t* cells,    \
      S* means) {                                                                                                     \
    cell_errors<S>(size[0], size[1], drawn, images, cells, means);                                                    \
  }                                                                                                                   \
  extern "C" void cell_errors_backward_##suffix(const int64_t* size, const S* drawn, const S* images,                 \
      const int64_t* cells, const S* grad, S* to_drawn) {                                                             \
    cell_errors_backward<S>(size[0], size[1], drawn, images, cells, grad, to_drawn);                                  \
  }                                                                                                                   \
  extern "C" void covariance_forward_##suffix(const int64_t* size, const S* quaternion, const S* log_scale,           \
      S* covariance) {                                                                                                \
    covariance_forward<S>(size[0], quaternion, log_scale, covariance);                                                \
  }                                                                                                                   \
  extern "C" void covariance_backward_##suffix(const int64_t* size, const S* quaternion, const S* log_scale,          \
      const S* grad, S* to_quaternion, S* to_log_scale) {                                                             \
    covariance_backward<S>(size[0], quaternion, log_scale, grad, to_quaternion, to_log_scale);                        \
  }

ENTRY(float, float32)
ENTRY(double, float64)
