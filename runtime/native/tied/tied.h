// TiedFFN: y = f(x W^T + bias_in) W + bias_out, W (h, d) in the rows that the model stores, read where it lies.
//
// A tile of W's rows, half a megabyte, serves both products before the next one is read: numbers of the hidden
// layer, f of them, and their rows of W, so weighted, into y. The batch goes in chunks of rows that stay in the second
// cache with their y. A strip of tiles adds to a y of its own, so that strips can run at the same time.
//
// Variants have the same code (tied_lanes.h) over other vectors. Plain data and pointers only, as in prp.h.
#pragma once

#include <cstdint>

namespace edgefc::tied {

constexpr std::int64_t kTile = 64;   // most rows of W in a tile
constexpr std::int64_t kChunk = 48;  // most rows of the batch in a chunk

// Checked: 1 <= d, h < 2^31, activation a number of activations.h.
struct Plan {
  std::int64_t d, h;
  int activation;
  std::int64_t tile;  // rows of W, set for d by tile_of()
};

constexpr std::int64_t between(std::int64_t least, std::int64_t value, std::int64_t most) {
  return value < least ? least : value > most ? most : value;
}
// Tiles of about 512 KB, chunks of about 384 KB and as much of y.
constexpr std::int64_t tile_of(std::int64_t d) {
  return d <= 16384 ? between(8, 131072 / d / 8 * 8, kTile) : between(1, 131072 / d, 8);
}
constexpr std::int64_t chunk_of(std::int64_t d) { return between(6, 98304 / d / 6 * 6, kChunk); }

struct Variant {
  // Adds rows first to last - 1 of W to y (rows, d): rows <= kChunk of x (rows, d); first a multiple of the tile.
  void (*strip)(const Plan&, const float* x, std::int64_t rows, const float* w, const float* bias_in,
                std::int64_t first, std::int64_t last, float* y);
};

const Variant& variant();  // the one to run on this processor; written by build.py

}  // namespace edgefc::tied
