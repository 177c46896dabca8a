// One register of numbers, and what the rasteriser does with it.
#pragma once

#include <cmath>
#include <cstdint>

namespace {

// Bytes of one vector register of the processor that is compiled for: wider vectors are taken apart and cost threefold.
#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

// One register of pixels: GCC's and clang's vector extension, so that no loop depends on the auto-vectoriser.
template <typename S> struct Lanes {
  static constexpr int count = kBytes / sizeof(S);
  typedef S Vector __attribute__((vector_size(kBytes)));
  static Vector load(const S* source) { Vector v; __builtin_memcpy(&v, source, kBytes); return v; }
  static void store(S* target, const Vector& v) { __builtin_memcpy(target, &v, kBytes); }
  static Vector iota() { Vector v; for (int l = 0; l < count; ++l) v[l] = S(l); return v; }
};
typedef Lanes<float>::Vector Floats;
typedef Lanes<double>::Vector Doubles;
typedef int32_t Integers __attribute__((vector_size(kBytes)));

// Whether some pixel still lets enough light through to be worth a Gaussian.
template <typename S> inline bool any_open(const typename Lanes<S>::Vector& transmittance, S least) {
  const auto open = transmittance >= least;
  uint64_t words[kBytes / 8], any = 0;
  __builtin_memcpy(words, &open, kBytes);
  for (uint64_t word : words) any |= word;
  return any != 0;
}

// Sum of the lanes, pairwise.
template <typename S> S lane_sum(const typename Lanes<S>::Vector& values) {
  S lane[Lanes<S>::count];
  __builtin_memcpy(lane, &values, kBytes);
  for (int width = Lanes<S>::count / 2; width > 0; width /= 2)
    for (int l = 0; l < width; ++l) lane[l] += lane[l + width];
  return lane[0];
}

// 2^x for arguments near or below 0. The float version is a degree-6 polynomial of the fraction (error below 2e-7).
inline Floats exp2_negative(const Floats& x) {
  const Floats t = x > -120.0f ? x : Floats{} - 120.0f;
  const Integers whole = __builtin_convertvector(t - 0.5f, Integers);  // truncation rounds t <= 0 to the nearest
  const Floats f = t - __builtin_convertvector(whole, Floats);
  Floats p = 1.535336188319500e-4f * f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  const Integers bits = (whole + 127) << 23;
  Floats scale;
  __builtin_memcpy(&scale, &bits, kBytes);
  return p * scale;
}
inline Doubles exp2_negative(const Doubles& x) {
  Doubles y = x;
  for (int l = 0; l < Lanes<double>::count; ++l) y[l] = std::exp2(x[l]);
  return y;
}

}  // namespace
