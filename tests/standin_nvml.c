/* Stands in for libnvidia-ml.so.1, the library of NVIDIA's driver, where there is no GPU: the few
 * functions of NVML that are asked for here, with their types and codes.
 *
 * $STANDIN_NVML names a file with a line for each GPU, as tests/standin_nvml.py writes it:
 *   UUID BUSY MEMORY-BUSY TOTAL-MIB USED-MIB WATTS CELSIUS MHZ MEMORY-MHZ REASONS NAME...
 * -1 is what a GPU does not know, a UUID "lost" a GPU that does not answer. A GPU's counter of energy
 * is its power by the time since the machine began. Without a file the driver is not loaded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_LOADED = 9, LOST = 15, GPUS = 16 };
struct gpu {
  char uuid[80], name[80];
  long busy, memory_busy, total, used, watts, celsius, mhz, memory_mhz, reasons;
};
struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };
struct utilization { unsigned gpu, memory; };

static struct gpu gpus[GPUS];
static unsigned count;

int nvmlInitWithFlags(unsigned flags) {
  const char *path = getenv("STANDIN_NVML");
  FILE *file = path ? fopen(path, "r") : NULL;
  (void)flags;
  if (!file) return NOT_LOADED;
  for (count = 0; count < GPUS; count++) {
    struct gpu *one = &gpus[count];
    if (fscanf(file, "%79s %ld %ld %ld %ld %ld %ld %ld %ld %ld %79[^\n]", one->uuid, &one->busy, &one->memory_busy,
               &one->total, &one->used, &one->watts, &one->celsius, &one->mhz, &one->memory_mhz, &one->reasons,
               one->name) != 11)
      break;
  }
  fclose(file);
  return OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == NOT_LOADED ? "Driver Not Loaded" : "stand-in"; }
int nvmlDeviceGetCount_v2(unsigned *found) { return *found = count, OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **found) {
  return *found = &gpus[index], strcmp(gpus[index].uuid, "lost") ? OK : LOST;
}
int nvmlDeviceGetUUID(struct gpu *one, char *text, unsigned size) { return snprintf(text, size, "%s", one->uuid), OK; }
int nvmlDeviceGetName(struct gpu *one, char *text, unsigned size) { return snprintf(text, size, "%s", one->name), OK; }

static int number(long value, unsigned *found) { return value < 0 ? NOT_SUPPORTED : (*found = (unsigned)value, OK); }

int nvmlDeviceGetUtilizationRates(struct gpu *one, struct utilization *found) {
  return number(one->busy, &found->gpu) || number(one->memory_busy, &found->memory) ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetMemoryInfo(struct gpu *one, struct memory *found) {
  found->total = (unsigned long long)one->total << 20, found->used = (unsigned long long)one->used << 20;
  return found->free = found->total - found->used, OK;
}
int nvmlDeviceGetTemperature(struct gpu *one, int sensor, unsigned *found) {
  return sensor ? NOT_SUPPORTED : number(one->celsius, found);
}
int nvmlDeviceGetClockInfo(struct gpu *one, int clock, unsigned *found) { /* 1: SM, 2: memory */
  return clock == 1 || clock == 2 ? number(clock == 1 ? one->mhz : one->memory_mhz, found) : NOT_SUPPORTED;
}
int nvmlDeviceGetPowerUsage(struct gpu *one, unsigned *milliwatts) {
  return number(one->watts < 0 ? -1 : one->watts * 1000, milliwatts);
}
int nvmlDeviceGetTotalEnergyConsumption(struct gpu *one, unsigned long long *millijoules) {
  struct timespec now;
  if (one->watts < 0) return NOT_SUPPORTED;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return *millijoules = (unsigned long long)((double)one->watts * (1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec)), OK;
}
static int reasons(struct gpu *one, unsigned long long *found) {
  return one->reasons < 0 ? NOT_SUPPORTED : (*found = (unsigned long long)one->reasons, OK);
}
#ifdef OLD_DRIVER /* before 510 */
int nvmlDeviceGetCurrentClocksThrottleReasons(struct gpu *one, unsigned long long *found) { return reasons(one, found); }
#else
int nvmlDeviceGetCurrentClocksEventReasons(struct gpu *one, unsigned long long *found) { return reasons(one, found); }
int nvmlDeviceGetMemoryInfo_v2(struct gpu *one, struct memory_v2 *found) {
  if (found->version != (2u << 24 | sizeof *found)) return NOT_SUPPORTED;
  found->total = (unsigned long long)one->total << 20, found->used = (unsigned long long)one->used << 20;
  return found->reserved = 1 << 20, found->free = found->total - found->used - found->reserved, OK;
}
#endif
