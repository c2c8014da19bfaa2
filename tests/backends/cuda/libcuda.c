/* A library of the driver's name, whose functions are whatever a test gives it: cuda-bindings asks for each by name. */
#include <stdint.h>

typedef void *(*Find)(const char *name);
static Find find;

void crowd_serve(Find functions) { find = functions; }

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
  *function = find(name);
  if (found) *found = *function ? 0 : 1;
  return 0;
}

int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, 0);
}

/* What the engine's own first look at a driver calls. */
int cuInit(unsigned flags) { return ((int (*)(unsigned))find("cuInit"))(flags); }
int cuDeviceGetCount(int *count) { return ((int (*)(int *))find("cuDeviceGetCount"))(count); }
int cuGetErrorName(int code, const char **name) { return ((int (*)(int, const char **))find("cuGetErrorName"))(code, name); }
