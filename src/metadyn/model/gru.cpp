// A GRU over short sequences, forward and backward pass, for one core: a block of sequences keeps its whole recurrence in cache.
//
// Gates stand in the order n_h, r, z, n_x (n_h: the recurrent half of the candidate), so that what the state feeds (n_h, r, z) and
// what the input feeds (r, z, n_x) are contiguous. Inside, states are padded to a multiple of 16 with units that stay zero.
// Not compiled with -ffast-math: a NaN must come out as a NaN, and the process keeps its denormals.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE_ROWS = 8, TILE_VECTORS = 2; // 16 of 32 registers accumulate
#elif defined(__AVX__)
constexpr int LANES = 8, TILE_ROWS = 4, TILE_VECTORS = 2; // 8 of 16
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE_ROWS = 4, TILE_VECTORS = 4; // 16 of 32
#else
constexpr int LANES = 4, TILE_ROWS = 4, TILE_VECTORS = 2; // 8 of 16
#endif
constexpr int BLOCK = 16; // sequences that run together
constexpr int CHUNK = 8;  // bins whose weight gradients are taken in one product

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t IntVector __attribute__((vector_size(4 * LANES)));
typedef float LooseVector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const LooseVector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<LooseVector*>(p) = v; }
inline Vector all(float v) { return v - Vector{}; }

// exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1) with x = n log 2 + r; exact to rounding also near zero. NaN stays NaN.
inline Vector expm1(Vector x) {
    x = x < all(-87.f) ? all(-87.f) : x;
    x = x > all(88.f) ? all(88.f) : x;
    const float to_integer = 12582912.f; // 1.5 * 2^23: adding it rounds
    Vector n = (x * 1.44269504f + to_integer) - to_integer;
    Vector r = x - n * 0.693359375f + n * 2.12194440e-4f; // log 2 in two parts
    Vector p = all(1.f / 5040);
    p = p * r + 1.f / 720;
    p = p * r + 1.f / 120;
    p = p * r + 1.f / 24;
    p = p * r + 1.f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r;
    Vector power = (Vector)((__builtin_convertvector(n, IntVector) + 127) << 23);
    return power * p + (power - 1.f);
}
inline Vector sigmoid(Vector x) { return 1.f / (2.f + expm1(-x)); }
inline Vector tanh(Vector x) {
    Vector e = expm1(2.f * x);
    return e / (e + 2.f);
}

struct Matrix { // entry (i, k) at data[i * row + k * column]
    const float* data;
    int row, column;
};

// out = start + A B for TILE_ROWS rows and VECTORS vectors of columns, held in registers.
template <int VECTORS>
inline void tile(int inner, Matrix a, const float* b, int ldb, const float* start, int ld_start, float* out, int ld_out) {
    Vector sum[TILE_ROWS][VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 16
        for (int c = 0; c < VECTORS; c++) sum[i][c] = load(start + i * ld_start + c * LANES);
    for (int k = 0; k < inner; k++) {
        Vector w[VECTORS];
#pragma GCC unroll 16
        for (int c = 0; c < VECTORS; c++) w[c] = load(b + (size_t)k * ldb + c * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
            const Vector v = all(a.data[(size_t)i * a.row + (size_t)k * a.column]);
#pragma GCC unroll 16
            for (int c = 0; c < VECTORS; c++) sum[i][c] += v * w[c];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 16
        for (int c = 0; c < VECTORS; c++) store(out + i * ld_out + c * LANES, sum[i][c]);
}

// out = start + A B; rows a multiple of 8, columns of 16.
void multiply(int rows, int inner, int columns, Matrix a, const float* b, int ldb, const float* start, int ld_start, float* out,
              int ld_out) {
    for (int j = 0; j < columns;) {
        const bool wide = j + TILE_VECTORS * LANES <= columns;
        for (int i = 0; i < rows; i += TILE_ROWS) {
            const Matrix part{a.data + (size_t)i * a.row, a.row, a.column};
            const float* from = start + (size_t)i * ld_start + j;
            float* to = out + (size_t)i * ld_out + j;
            if (wide)
                tile<TILE_VECTORS>(inner, part, b + j, ldb, from, ld_start, to, ld_out);
            else
                tile<1>(inner, part, b + j, ldb, from, ld_start, to, ld_out);
        }
        j += wide ? TILE_VECTORS * LANES : LANES;
    }
}

int up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

struct Sizes {
    int sequences, time, inputs, hidden;
    int padded() const { return up(hidden, 16); }
    int padded_inputs() const { return up(inputs, 16); }
};

// Some sequences of a block. Sequence i is alive in bins 0 .. end[i] - 1; a missing sequence never is.
struct Block {
    int first, count, rows, longest = 0;
    int end[BLOCK] = {};
    bool reverse;

    Block(const Sizes& s, int first, bool reverse, const int64_t* length)
        : first(first), count(std::min(BLOCK, s.sequences - first)), rows(up(count, 8)), reverse(reverse) {
        for (int i = 0; i < count; i++) {
            end[i] = reverse ? (int)length[first + i] : s.time;
            longest = std::max(longest, end[i]);
        }
    }
    bool alive(int i, int t) const { return t < end[i]; }
    int bin(int step) const { return reverse ? longest - 1 - step : step; }
    size_t at(const Sizes& s, int i, int t) const { return (size_t)(first + i) * s.time + t; }
};

// Columns `width` of sequences at bin t into rows of `padded`; zeros where a sequence is not alive.
void gather(const Sizes& s, const Block& b, int t, const float* from, int width, float* to, int padded) {
    for (int i = 0; i < b.rows; i++) {
        const bool alive = b.alive(i, t);
        if (alive) std::memcpy(to + i * padded, from + b.at(s, i, t) * width, width * sizeof(float));
        std::fill(to + i * padded + (alive ? width : 0), to + (i + 1) * padded, 0.f);
    }
}

// Weights (3 hidden, inputs), gates r, z, n, with the gates in the order first, first + 1, ... and padded to `unit`.
template <class Place>
void each_weight(int hidden, int unit, int inputs, int first, Place place) {
    for (int gate = 0; gate < 3; gate++)
        for (int u = 0; u < hidden; u++)
            for (int k = 0; k < inputs; k++) place(gate * unit + u, k, ((size_t)((gate + first) % 3) * hidden + u) * inputs + k);
}
constexpr int R_Z_N = 0, N_R_Z = 2;

std::vector<float> columns_of(const float* w, int hidden, int unit, int inputs, int rows, int first) { // (rows, 3 unit)
    std::vector<float> packed((size_t)rows * 3 * unit);
    each_weight(hidden, unit, inputs, first, [&](int g, int k, size_t at) { packed[(size_t)k * 3 * unit + g] = w[at]; });
    return packed;
}
std::vector<float> rows_of(const float* w, int hidden, int unit, int inputs, int columns, int first) { // (3 unit, columns)
    std::vector<float> packed((size_t)3 * unit * columns);
    each_weight(hidden, unit, inputs, first, [&](int g, int k, size_t at) { packed[(size_t)g * columns + k] = w[at]; });
    return packed;
}

} // namespace

extern "C" {

// Sequences first .. last - 1 (first a multiple of 16). x (sequences, time, inputs); bias (sequences, 4, hidden), gates n_h, r, z, n_x;
// wx (3 hidden, inputs) and wh (3 hidden, hidden), gates r, z, n; y (sequences, time, hidden), zero where a sequence is not alive;
// gates (blocks, time, 16, 4, padded hidden) or null.
void gru_forward(int first, int last, int sequences, int time, int inputs, int hidden, int reverse, const int64_t* length,
                 const float* x, const float* bias, const float* wx, const float* wh, float* y, float* gates) {
    const Sizes s{sequences, time, inputs, hidden};
    const int unit = s.padded(), gate_row = 4 * unit;
    const std::vector<float> from_x = columns_of(wx, hidden, unit, inputs, inputs, R_Z_N);
    const std::vector<float> from_h = columns_of(wh, hidden, unit, hidden, unit, N_R_Z);
    std::vector<float> start(BLOCK * gate_row), sum(BLOCK * gate_row), state(BLOCK * unit), input(BLOCK * inputs);
    for (int n = first; n < last; n += BLOCK) {
        const Block b(s, n, reverse, length);
        std::fill(state.begin(), state.end(), 0.f);
        for (int i = 0; i < b.count; i++) {
            for (int gate = 0; gate < 4; gate++)
                std::memcpy(&start[i * gate_row + gate * unit], bias + ((size_t)(n + i) * 4 + gate) * hidden, hidden * sizeof(float));
            std::fill(y + b.at(s, i, b.end[i]) * hidden, y + b.at(s, i, time) * hidden, 0.f);
        }
        for (int step = 0; step < b.longest; step++) {
            const int t = b.bin(step);
            gather(s, b, t, x, inputs, input.data(), inputs);
            const Matrix in{input.data(), inputs, 1}, before{state.data(), unit, 1};
            multiply(b.rows, inputs, 3 * unit, in, from_x.data(), 3 * unit, &start[unit], gate_row, &sum[unit], gate_row);
            multiply(b.rows, unit, unit, before, from_h.data(), 3 * unit, start.data(), gate_row, sum.data(), gate_row);
            multiply(b.rows, unit, 2 * unit, before, &from_h[unit], 3 * unit, &sum[unit], gate_row, &sum[unit], gate_row);
            float* kept = gates ? gates + ((size_t)(n / BLOCK) * time + t) * BLOCK * gate_row : nullptr;
            for (int i = 0; i < b.count; i++) {
                if (!b.alive(i, t)) continue;
                const float* g = &sum[i * gate_row];
                float* h = &state[i * unit];
                for (int k = 0; k < unit; k += LANES) {
                    const Vector nh = load(g + k), r = sigmoid(load(g + unit + k)), z = sigmoid(load(g + 2 * unit + k));
                    const Vector candidate = tanh(load(g + 3 * unit + k) + r * nh);
                    store(h + k, candidate + z * (load(h + k) - candidate));
                    if (!kept) continue;
                    float* o = kept + i * gate_row + k;
                    store(o, nh), store(o + unit, r), store(o + 2 * unit, z), store(o + 3 * unit, candidate);
                }
                std::memcpy(y + b.at(s, i, t) * hidden, h, hidden * sizeof(float));
            }
        }
    }
}

// Gradients for gru_forward's gates and y and the gradient dy: dx and dbias of these sequences, dwx and dwh summed over them.
void gru_backward(int first, int last, int sequences, int time, int inputs, int hidden, int reverse, const int64_t* length,
                  const float* x, const float* wx, const float* wh, const float* y, const float* gates, const float* dy, float* dx,
                  float* dbias, float* dwx, float* dwh) {
    const Sizes s{sequences, time, inputs, hidden};
    const int unit = s.padded(), gate_row = 4 * unit, wide = s.padded_inputs();
    const std::vector<float> to_x = rows_of(wx, hidden, unit, inputs, wide, R_Z_N);
    const std::vector<float> to_h = rows_of(wh, hidden, unit, hidden, unit, N_R_Z);
    const int rows = BLOCK * CHUNK;
    std::vector<float> d(rows * gate_row), before(rows * unit), input(rows * wide), d_input(rows * wide), none(wide);
    std::vector<float> d_state(BLOCK * unit), d_start(BLOCK * gate_row);
    std::vector<float> block_x(wide * 3 * unit), block_h(unit * 3 * unit), total_x(wide * 3 * unit), total_h(unit * 3 * unit);
    for (int n = first; n < last; n += BLOCK) {
        const Block b(s, n, reverse, length);
        for (auto* sums : {&d_state, &d_start, &block_x, &block_h}) std::fill(sums->begin(), sums->end(), 0.f);
        for (int i = 0; i < b.count; i++) std::fill(dx + b.at(s, i, b.end[i]) * inputs, dx + b.at(s, i, time) * inputs, 0.f);
        for (int done = 0; done < b.longest;) {
            const int steps = std::min(CHUNK, b.longest - done);
            for (int q = 0; q < steps; q++) {
                const int step = b.longest - 1 - done - q, t = b.bin(step);
                float *dg = &d[q * b.rows * gate_row], *h_before = &before[q * b.rows * unit];
                gather(s, b, t, x, inputs, &input[q * b.rows * wide], wide);
                if (step)
                    gather(s, b, b.bin(step - 1), y, hidden, h_before, unit);
                else
                    std::fill(h_before, h_before + b.rows * unit, 0.f);
                const float* kept = gates + ((size_t)(n / BLOCK) * time + t) * BLOCK * gate_row;
                for (int i = 0; i < b.rows; i++) {
                    float *o = dg + i * gate_row, *dh = &d_state[i * unit], *ds = &d_start[i * gate_row];
                    if (!b.alive(i, t)) {
                        std::fill(o, o + gate_row, 0.f);
                        std::fill(dh, dh + unit, 0.f);
                        continue;
                    }
                    const float *g = kept + i * gate_row, *h = h_before + i * unit, *dyi = dy + b.at(s, i, t) * hidden;
                    for (int k = 0; k < hidden; k++) dh[k] += dyi[k];
                    for (int k = 0; k < unit; k += LANES) {
                        const Vector nh = load(g + k), r = load(g + unit + k), z = load(g + 2 * unit + k);
                        const Vector candidate = load(g + 3 * unit + k), by = load(dh + k);
                        const Vector dn = by * (1.f - z) * (1.f - candidate * candidate), dnh = dn * r;
                        const Vector dr = dn * nh * r * (1.f - r), dz = by * (load(h + k) - candidate) * z * (1.f - z);
                        store(o + k, dnh), store(o + unit + k, dr), store(o + 2 * unit + k, dz), store(o + 3 * unit + k, dn);
                        store(ds + k, load(ds + k) + dnh), store(ds + unit + k, load(ds + unit + k) + dr);
                        store(ds + 2 * unit + k, load(ds + 2 * unit + k) + dz);
                        store(ds + 3 * unit + k, load(ds + 3 * unit + k) + dn);
                        store(dh + k, by * z);
                    }
                }
                multiply(b.rows, 3 * unit, unit, {dg, gate_row, 1}, to_h.data(), unit, d_state.data(), unit, d_state.data(), unit);
            }
            const int many = steps * b.rows;
            multiply(unit, many, 3 * unit, {before.data(), 1, unit}, d.data(), gate_row, block_h.data(), 3 * unit, block_h.data(),
                     3 * unit);
            multiply(up(inputs, 8), many, 3 * unit, {input.data(), 1, wide}, &d[unit], gate_row, block_x.data(), 3 * unit,
                     block_x.data(), 3 * unit);
            multiply(many, 3 * unit, wide, {&d[unit], gate_row, 1}, to_x.data(), wide, none.data(), 0, d_input.data(), wide);
            for (int q = 0; q < steps; q++)
                for (int i = 0, t = b.bin(b.longest - 1 - done - q); i < b.count; i++)
                    if (b.alive(i, t))
                        std::memcpy(dx + b.at(s, i, t) * inputs, &d_input[(q * b.rows + i) * wide], inputs * sizeof(float));
            done += steps;
        }
        for (int i = 0; i < b.count; i++)
            for (int gate = 0; gate < 4; gate++)
                std::memcpy(dbias + ((size_t)(n + i) * 4 + gate) * hidden, &d_start[i * gate_row + gate * unit], hidden * sizeof(float));
        for (size_t k = 0; k < total_x.size(); k++) total_x[k] += block_x[k];
        for (size_t k = 0; k < total_h.size(); k++) total_h[k] += block_h[k];
    }
    each_weight(hidden, unit, inputs, R_Z_N, [&](int g, int k, size_t at) { dwx[at] = total_x[(size_t)k * 3 * unit + g]; });
    each_weight(hidden, unit, hidden, N_R_Z, [&](int g, int k, size_t at) { dwh[at] = total_h[(size_t)k * 3 * unit + g]; });
}
}
