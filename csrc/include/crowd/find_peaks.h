#pragma once

#include <vector>

#include "crowd/tensor_view.h"

namespace crowd {

// A local maximum: its position in cells (the centre of the first cell is (0.5, 0.5)) and its value.
struct Peak {
  float x, y, score;
};

// Local maxima of a contiguous heat map [height, width], in raster order (CenterNet).
//
// A cell is a peak if it reaches the threshold, exceeds its 4 earlier neighbours in raster order and is
// no less than its 4 later ones, so that a tie belongs to the first cell. Cells outside the map and NaN
// neighbours count as -infinity; a NaN or -infinity cell is never a peak. The position is refined by a
// parabola per axis, at most half a cell; not at all where a neighbour is missing, NaN or infinite.
// threads: 0 for one per processor. The result does not depend on it.
std::vector<Peak> find_peaks(const float* heatmap, Index height, Index width, double threshold,
                             int threads = 0);

}  // namespace crowd
