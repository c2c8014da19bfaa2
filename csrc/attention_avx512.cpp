#include "multiversion.h"

#if CROWD_X86_VERSIONS

#include "attention_avx512.h"
#include "attention_kernel.h"

namespace crowd {

CROWD_TARGET(CROWD_FEATURES)
void attend_line_avx512(const Line<float>& line, const Scratch& scratch, bool second) {
  attend_line<Avx512>(line, scratch, second);
}

CROWD_TARGET(CROWD_FEATURES)
void attend_line_avx512(const Line<Bfloat16>& line, const Scratch& scratch, bool second) {
  attend_line<Avx512>(line, scratch, second);
}

}  // namespace crowd

#endif
