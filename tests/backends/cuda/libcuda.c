/* A library of the driver's name, whose functions are whatever a test gives it: cuda-bindings asks for each
 * by name. */
#include <stdint.h>

typedef void* (*Find)(const char* name);
static Find find;

void crowd_serve(Find functions) { find = functions; }

int cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags, int* found) {
  *function = find(name);
  if (found) *found = *function ? 0 : 1;
  return 0;
}

int cuGetProcAddress(const char* name, void** function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, 0);
}

/* What is called by the library itself, before cuda-bindings are loaded: the engine's first look, and crowd
 * doctor. */
#define CALL(name, types, ...) \
  int name types { return ((int(*) types)find(#name))(__VA_ARGS__); }
CALL(cuInit, (unsigned flags), flags)
CALL(cuDriverGetVersion, (int* version), version)
CALL(cuDeviceGetCount, (int* count), count)
CALL(cuDeviceGet, (int* device, int ordinal), device, ordinal)
CALL(cuDeviceGetName, (char* name, int length, int device), name, length, device)
CALL(cuGetErrorName, (int code, const char** name), code, name)
