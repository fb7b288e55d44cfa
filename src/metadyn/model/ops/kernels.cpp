// What a step on a CPU spends its time in, forward and backward pass: GRUs over short sequences, a block of which keeps its
// recurrence in one core's cache, and layers of a multilayer perceptron.
//
// Gates stand in the order n_h, r, z, n_x (n_h: the recurrent half of the candidate), so that what the state feeds (n_h, r, z)
// and what the input feeds (r, z, n_x) are contiguous. Inside, states are padded to a multiple of 16 with units that stay zero.
// Not compiled with -ffast-math: a NaN must come out as a NaN, and the process keeps its denormals.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
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
void multiply(int rows, int inner, int columns, Matrix a, const float* b, int ldb, const float* start, int ld_start,
              float* out, int ld_out) {
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

// `width` numbers of each sequence at `step` and the `many` - 1 steps that follow (by = 1) or lead to it (by = -1), into rows
// of `padded`; zeros before the first step and where a sequence is not alive. Sequence by sequence, as memory runs.
void gather(const Sizes& s, const Block& b, int step, int many, int by, const float* from, int width, float* to, int padded) {
    for (int i = 0; i < b.rows; i++)
        for (int q = 0; q < many; q++) {
            const int now = step + q * by, t = b.bin(now);
            float* row = to + (q * b.rows + i) * padded;
            const bool alive = now >= 0 && b.alive(i, t);
            if (alive) std::memcpy(row, from + b.at(s, i, t) * width, width * sizeof(float));
            std::fill(row + (alive ? width : 0), row + padded, 0.f);
        }
}

// Weights (3 hidden, inputs), gates r, z, n, with the gates in the order first, first + 1, ... and padded to `unit`.
template <class Place>
void each_weight(int hidden, int unit, int inputs, int first, Place place) {
    for (int gate = 0; gate < 3; gate++)
        for (int u = 0; u < hidden; u++)
            for (int k = 0; k < inputs; k++)
                place(gate * unit + u, k, ((size_t)((gate + first) % 3) * hidden + u) * inputs + k);
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

// What a block's gates are made from: packed weights, and the bias of each sequence.
struct Gates {
    int unit, row, inputs; // row: the four gates of a sequence
    std::vector<float> from_x, from_h, start;

    Gates(const Sizes& s, const float* wx, const float* wh)
        : unit(s.padded()), row(4 * unit), inputs(s.inputs), from_x(columns_of(wx, s.hidden, unit, inputs, inputs, R_Z_N)),
          from_h(columns_of(wh, s.hidden, unit, s.hidden, unit, N_R_Z)), start(BLOCK * row) {}

    void begin(const Sizes& s, const Block& b, const float* bias) {
        for (int i = 0; i < b.count; i++)
            for (int gate = 0; gate < 4; gate++)
                std::memcpy(&start[i * row + gate * unit], bias + ((size_t)(b.first + i) * 4 + gate) * s.hidden,
                            s.hidden * sizeof(float));
    }
    // Sums before the nonlinearities, from inputs (rows, width) and the states one step before (rows, unit).
    void sums(int rows, const float* input, int width, const float* before, float* out) const {
        const Matrix x{input, width, 1}, h{before, unit, 1};
        multiply(rows, inputs, 3 * unit, x, from_x.data(), 3 * unit, &start[unit], row, out + unit, row);
        multiply(rows, unit, unit, h, from_h.data(), 3 * unit, start.data(), row, out, row);
        multiply(rows, unit, 2 * unit, h, &from_h[unit], 3 * unit, out + unit, row, out + unit, row);
    }
};
struct Activation {
    Vector nh, r, z, candidate;
    Activation(const float* sums, int unit)
        : nh(load(sums)), r(sigmoid(load(sums + unit))), z(sigmoid(load(sums + 2 * unit))),
          candidate(tanh(load(sums + 3 * unit) + r * nh)) {}
};

// Sequences first .. last - 1, first a multiple of BLOCK.
void forward(int first, int last, const Sizes& s, bool reverse, const int64_t* length, const float* x, const float* bias,
             const float* wx, const float* wh, float* y) {
    const int time = s.time, inputs = s.inputs, hidden = s.hidden;
    Gates gates(s, wx, wh);
    const int unit = gates.unit;
    std::vector<float> sums(BLOCK * gates.row), state(BLOCK * unit), input(BLOCK * CHUNK * inputs);
    for (int n = first; n < last; n += BLOCK) {
        const Block b(s, n, reverse, length);
        gates.begin(s, b, bias);
        std::fill(state.begin(), state.end(), 0.f);
        for (int i = 0; i < b.count; i++) std::fill(y + b.at(s, i, b.end[i]) * hidden, y + b.at(s, i, time) * hidden, 0.f);
        for (int step = 0; step < b.longest; step++) {
            const int t = b.bin(step);
            if (step % CHUNK == 0) gather(s, b, step, std::min(CHUNK, b.longest - step), 1, x, inputs, input.data(), inputs);
            gates.sums(b.rows, &input[step % CHUNK * b.rows * inputs], inputs, state.data(), sums.data());
            for (int i = 0; i < b.count; i++) {
                if (!b.alive(i, t)) continue;
                float* h = &state[i * unit];
                for (int k = 0; k < unit; k += LANES) {
                    const Activation g(&sums[i * gates.row + k], unit);
                    store(h + k, g.candidate + g.z * (load(h + k) - g.candidate));
                }
                std::memcpy(y + b.at(s, i, t) * hidden, h, hidden * sizeof(float));
            }
        }
    }
}

// dx and dbias of sequences first .. last - 1, dwx and dwh summed over them. The gates are computed once more, from y: to keep
// them would cost more time than that, in memory.
void backward(int first, int last, const Sizes& s, bool reverse, const int64_t* length, const float* x, const float* bias,
              const float* wx, const float* wh, const float* y, const float* dy, float* dx, float* dbias, float* dwx,
              float* dwh) {
    const int time = s.time, inputs = s.inputs, hidden = s.hidden;
    Gates gates(s, wx, wh);
    const int unit = gates.unit, gate_row = gates.row, wide = s.padded_inputs();
    const std::vector<float> to_x = rows_of(wx, hidden, unit, inputs, wide, R_Z_N);
    const std::vector<float> to_h = rows_of(wh, hidden, unit, hidden, unit, N_R_Z);
    const int rows = BLOCK * CHUNK;
    std::vector<float> d(rows * gate_row), before(rows * unit), input(rows * wide), d_input(rows * wide), none(wide);
    std::vector<float> d_out(rows * unit);
    std::vector<float> d_state(BLOCK * unit), d_start(BLOCK * gate_row);
    std::vector<float> block_x(wide * 3 * unit), block_h(unit * 3 * unit), total_x(wide * 3 * unit), total_h(unit * 3 * unit);
    for (int n = first; n < last; n += BLOCK) {
        const Block b(s, n, reverse, length);
        gates.begin(s, b, bias);
        for (auto* sums : {&d_state, &d_start, &block_x, &block_h}) std::fill(sums->begin(), sums->end(), 0.f);
        for (int i = 0; i < b.count; i++) std::fill(dx + b.at(s, i, b.end[i]) * inputs, dx + b.at(s, i, time) * inputs, 0.f);
        for (int done = 0; done < b.longest;) {
            const int steps = std::min(CHUNK, b.longest - done), last_step = b.longest - 1 - done;
            gather(s, b, last_step, steps, -1, x, inputs, input.data(), wide);
            gather(s, b, last_step - 1, steps, -1, y, hidden, before.data(), unit);
            gather(s, b, last_step, steps, -1, dy, hidden, d_out.data(), unit);
            for (int q = 0; q < steps; q++) {
                const int t = b.bin(last_step - q);
                float *dg = &d[q * b.rows * gate_row], *h_before = &before[q * b.rows * unit], *in = &input[q * b.rows * wide];
                gates.sums(b.rows, in, wide, h_before, dg);
                for (int i = 0; i < b.rows; i++) {
                    float *o = dg + i * gate_row, *dh = &d_state[i * unit], *ds = &d_start[i * gate_row];
                    if (!b.alive(i, t)) {
                        std::fill(o, o + gate_row, 0.f);
                        std::fill(dh, dh + unit, 0.f);
                        continue;
                    }
                    const float *h = h_before + i * unit, *dyi = &d_out[(q * b.rows + i) * unit];
                    for (int k = 0; k < unit; k += LANES) {
                        const Activation g(o + k, unit);
                        const Vector by = load(dh + k) + load(dyi + k);
                        const Vector dn = by * (1.f - g.z) * (1.f - g.candidate * g.candidate);
                        const Vector dr = dn * g.nh * g.r * (1.f - g.r);
                        const Vector dz = by * (load(h + k) - g.candidate) * g.z * (1.f - g.z);
                        const Vector each[4] = {dn * g.r, dr, dz, dn};
                        for (int gate = 0; gate < 4; gate++) {
                            store(o + gate * unit + k, each[gate]);
                            store(ds + gate * unit + k, load(ds + gate * unit + k) + each[gate]);
                        }
                        store(dh + k, by * g.z);
                    }
                }
                multiply(b.rows, 3 * unit, unit, {dg, gate_row, 1}, to_h.data(), unit, d_state.data(), unit,
                    d_state.data(), unit);
            }
            const int many = steps * b.rows;
            multiply(unit, many, 3 * unit, {before.data(), 1, unit}, d.data(), gate_row, block_h.data(), 3 * unit,
                     block_h.data(), 3 * unit);
            multiply(up(inputs, 8), many, 3 * unit, {input.data(), 1, wide}, &d[unit], gate_row, block_x.data(), 3 * unit,
                     block_x.data(), 3 * unit);
            multiply(many, 3 * unit, wide, {&d[unit], gate_row, 1}, to_x.data(), wide, none.data(), 0, d_input.data(), wide);
            for (int q = 0; q < steps; q++)
                for (int i = 0, t = b.bin(last_step - q); i < b.count; i++)
                    if (b.alive(i, t))
                        std::memcpy(dx + b.at(s, i, t) * inputs, &d_input[(q * b.rows + i) * wide], inputs * sizeof(float));
            done += steps;
        }
        for (int i = 0; i < b.count; i++)
            for (int gate = 0; gate < 4; gate++)
                std::memcpy(dbias + ((size_t)(n + i) * 4 + gate) * hidden, &d_start[i * gate_row + gate * unit],
                    hidden * sizeof(float));
        for (size_t k = 0; k < total_x.size(); k++) total_x[k] += block_x[k];
        for (size_t k = 0; k < total_h.size(); k++) total_h[k] += block_h[k];
    }
    each_weight(hidden, unit, inputs, R_Z_N, [&](int g, int k, size_t at) { dwx[at] = total_x[(size_t)k * 3 * unit + g]; });
    each_weight(hidden, unit, hidden, N_R_Z, [&](int g, int k, size_t at) { dwh[at] = total_h[(size_t)k * 3 * unit + g]; });
}

constexpr int ROWS = 128; // that go through a layer together

// y = x w + b, or tanh of it, of items with weights of their own or `shared` ones: x (items, points, inputs), w (items, inputs,
// outputs). All rows are `total`; the last item may have fewer than `points`.
struct Layer {
    int points, total, inputs, outputs;
    bool shared_weight, shared_bias, squash;

    int wide() const { return up(outputs, 16); }
    int deep() const { return up(inputs, 16); }
    int64_t first_row(int item) const { return (int64_t)item * points; }
    int rows(int item) const { return (int)std::min<int64_t>(points, total - first_row(item)); }
    const float* weight(const float* w, int item) const { return w + (shared_weight ? 0 : (size_t)item * inputs * outputs); }
    const float* bias(const float* b, int item) const { return b + (shared_bias ? 0 : (size_t)item * outputs); }
};

// `count` rows of `width` into `many` rows of `padded`, zeros in what is more.
void copy_rows(const float* from, int count, int width, float* to, int many, int padded) {
    for (int i = 0; i < many; i++) {
        const int here = i < count ? width : 0;
        std::memcpy(to + (size_t)i * padded, from + (size_t)i * width, here * sizeof(float));
        std::fill(to + (size_t)i * padded + here, to + (size_t)(i + 1) * padded, 0.f);
    }
}
void copy_back(const float* from, int padded, float* to, int count, int width) {
    for (int i = 0; i < count; i++) std::memcpy(to + (size_t)i * width, from + (size_t)i * padded, width * sizeof(float));
}

void forward(int first, int last, const Layer& s, const float* x, const float* w, const float* b, float* y) {
    const int wide = s.wide();
    std::vector<float> weight(s.inputs * wide), start(wide), input(ROWS * s.inputs), out(ROWS * wide);
    for (int item = first; item < last; item++) {
        if (item == first || !s.shared_weight) copy_rows(s.weight(w, item), s.inputs, s.outputs, weight.data(), s.inputs, wide);
        if (item == first || !s.shared_bias) copy_rows(s.bias(b, item), 1, s.outputs, start.data(), 1, wide);
        for (int r = 0; r < s.rows(item); r += ROWS) {
            const int count = std::min(ROWS, s.rows(item) - r), many = up(count, 8);
            const float* rows = x + (s.first_row(item) + r) * s.inputs;
            if (many > count) {
                copy_rows(rows, count, s.inputs, input.data(), many, s.inputs);
                rows = input.data();
            }
            multiply(many, s.inputs, wide, {rows, s.inputs, 1}, weight.data(), wide, start.data(), 0, out.data(), wide);
            if (s.squash)
                for (int k = 0; k < many * wide; k += LANES) store(&out[k], tanh(load(&out[k])));
            copy_back(out.data(), wide, y + (s.first_row(item) + r) * s.outputs, count, s.outputs);
        }
    }
}

// dx, unless it is null, and of each item dw (inputs, outputs) and db (outputs).
void backward(int first, int last, const Layer& s, const float* x, const float* w, const float* y, const float* dy, float* dx,
              float* dw, float* db) {
    const int wide = s.wide(), deep = s.deep();
    std::vector<float> across(wide * deep), none(deep), input(ROWS * deep), out(ROWS * wide), d(ROWS * wide), d_input(ROWS * deep);
    std::vector<float> d_weight(deep * wide), d_bias(wide);
    for (int item = first; item < last; item++) {
        if (item == first || !s.shared_weight)
            for (int i = 0; i < s.inputs; i++)
                for (int k = 0; k < s.outputs; k++) across[k * deep + i] = s.weight(w, item)[i * s.outputs + k];
        std::fill(d_weight.begin(), d_weight.end(), 0.f);
        std::fill(d_bias.begin(), d_bias.end(), 0.f);
        for (int r = 0; r < s.rows(item); r += ROWS) {
            const int count = std::min(ROWS, s.rows(item) - r), many = up(count, 8);
            const int64_t row = s.first_row(item) + r;
            copy_rows(x + row * s.inputs, count, s.inputs, input.data(), many, deep);
            copy_rows(dy + row * s.outputs, count, s.outputs, d.data(), many, wide);
            if (s.squash) {
                copy_rows(y + row * s.outputs, count, s.outputs, out.data(), many, wide);
                for (int k = 0; k < many * wide; k += LANES)
                    store(&d[k], load(&d[k]) * (1.f - load(&out[k]) * load(&out[k])));
            }
            for (int i = 0; i < count; i++)
                for (int k = 0; k < wide; k += LANES) store(&d_bias[k], load(&d_bias[k]) + load(&d[i * wide + k]));
            multiply(up(s.inputs, 8), many, wide, {input.data(), 1, deep}, d.data(), wide, d_weight.data(), wide,
                     d_weight.data(), wide);
            if (!dx) continue;
            multiply(many, s.outputs, deep, {d.data(), wide, 1}, across.data(), deep, none.data(), 0, d_input.data(), deep);
            copy_back(d_input.data(), deep, dx + row * s.inputs, count, s.inputs);
        }
        copy_back(d_weight.data(), wide, dw + (size_t)item * s.inputs * s.outputs, s.inputs, s.outputs);
        std::memcpy(db + (size_t)item * s.outputs, d_bias.data(), s.outputs * sizeof(float));
    }
}

typedef void (*Team)(void (*)(void*), void*, unsigned, unsigned); // runs a function in each of some threads

// work(part, first, last) of `parts` stretches of whole blocks of items, by the threads of a team, or by new ones where there is
// none.
template <class Work> void by_parts(Team team, int parts, int items, int block, Work work) {
    struct Shared {
        std::atomic<int> next;
        int parts, items, block;
        Work* work;
    } shared{{0}, parts, items, block, &work};
    const auto run = [](void* given) {
        Shared& all = *static_cast<Shared*>(given);
        const int64_t blocks = (all.items + all.block - 1) / all.block;
        const auto bound = [&](int part) { return (int)std::min<int64_t>(blocks * part / all.parts * all.block, all.items); };
        for (int part; (part = all.next++) < all.parts;) (*all.work)(part, bound(part), bound(part + 1));
    };
    if (team && parts > 1) return team(run, &shared, parts, 0);
    std::vector<std::thread> others;
    for (int i = 1; i < parts; i++) others.emplace_back(run, &shared);
    run(&shared);
    for (auto& each : others) each.join();
}

} // namespace

extern "C" {

// x (sequences, time, inputs); bias (sequences, 4, hidden), gates n_h, r, z, n_x; wx (3 hidden, inputs) and wh (3 hidden,
// hidden), gates r, z, n; y (sequences, time, hidden), zero where a sequence is not alive.
void gru_forward(Team team, int parts, int sequences, int time, int inputs, int hidden, int reverse, const int64_t* length,
                 const float* x, const float* bias, const float* wx, const float* wh, float* y) {
    const Sizes s{sequences, time, inputs, hidden};
    by_parts(team, parts, sequences, BLOCK,
             [&](int, int first, int last) { forward(first, last, s, reverse, length, x, bias, wx, wh, y); });
}

// From gru_forward's y and the gradient dy: dx, dbias, and of each part dwx and dwh.
void gru_backward(Team team, int parts, int sequences, int time, int inputs, int hidden, int reverse, const int64_t* length,
                  const float* x, const float* bias, const float* wx, const float* wh, const float* y, const float* dy,
                  float* dx, float* dbias, float* dwx, float* dwh) {
    const Sizes s{sequences, time, inputs, hidden};
    by_parts(team, parts, sequences, BLOCK, [&](int part, int first, int last) {
        float *part_x = dwx + (size_t)part * 3 * hidden * inputs, *part_h = dwh + (size_t)part * 3 * hidden * hidden;
        backward(first, last, s, reverse, length, x, bias, wx, wh, y, dy, dx, dbias, part_x, part_h);
    });
}

// x (items, points, inputs) of `total` rows in all, w (items or 1, inputs, outputs), b (items or 1, outputs).
void layer_forward(Team team, int parts, int items, int points, int total, int inputs, int outputs, int shared_weight,
                   int shared_bias, int squash, const float* x, const float* w, const float* b, float* y) {
    const Layer s{points, total, inputs, outputs, (bool)shared_weight, (bool)shared_bias, (bool)squash};
    by_parts(team, parts, items, 1, [&](int, int first, int last) { forward(first, last, s, x, w, b, y); });
}

// From layer_forward's y and the gradient dy: dx, unless it is null, and of each item dw and db.
void layer_backward(Team team, int parts, int items, int points, int total, int inputs, int outputs, int shared_weight,
                    int shared_bias, int squash, const float* x, const float* w, const float* y, const float* dy, float* dx,
                    float* dw, float* db) {
    const Layer s{points, total, inputs, outputs, (bool)shared_weight, (bool)shared_bias, (bool)squash};
    by_parts(team, parts, items, 1, [&](int, int first, int last) { backward(first, last, s, x, w, y, dy, dx, dw, db); });
}
}
