#pragma once

namespace crowd {

// Whether this processor multiplies and sums bytes in one instruction (VNNI: AVX512_VNNI or AVX-VNNI), so
// that int8 convolutions take half the time of bfloat16 ones. False where that is not known, as on Arm.
bool has_int8_dot();

}  // namespace crowd
