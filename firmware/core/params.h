/* Parameters in RAM, and their store in two flash pages. */
#ifndef PARAMS_H
#define PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

#define PARAM_INDEX(name, id, least, most) PARAM_##name,
enum { PARAM_TABLE(PARAM_INDEX) PARAM_COUNT };
#define PARAMS_PER_WHEEL (PARAM_RIGHT_KP - PARAM_LEFT_KP)

typedef struct {
  float value[PARAM_COUNT];
} params_t;

/* What the store found. */
typedef enum { STORE_BLANK, STORE_FOUND, STORE_DAMAGED } store_result_t;

/* Where the newest record is. */
typedef struct {
  uint32_t sequence; /* of the newest record, 0: none */
  uint32_t boots;
  uint8_t page;
  uint32_t next_slot; /* in that page */
} store_t;

void params_defaults(params_t *params);
int params_index(uint16_t id); /* or -1 */
/* False, and nothing changes, where the value is out of range or above the robot's built-in speed or acceleration. */
bool params_set(params_t *params, int index, float value);
uint32_t params_crc(const params_t *params);

/* Reads the newest valid record into params, which keeps its values where there is none. */
store_result_t store_load(store_t *store, params_t *params);
/* Appends a record. Power may fail at any moment: the record before stays valid. False: flash refused. */
bool store_save(store_t *store, const params_t *params);

#endif
