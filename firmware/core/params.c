#include "params.h"

#include <string.h>

#include "bytes.h"
#include "hal.h"
#include "robot_limits.h"
#include "wire.h"

typedef struct {
  uint16_t id;
  float least, most, built_in;
} spec_t;
#define SPEC_ROW(name, id, least, most) {(id), (least), (most), DEFAULT_##name},
static const spec_t SPECS[PARAM_COUNT] = {PARAM_TABLE(SPEC_ROW)};

void params_defaults(params_t *params) {
  for (int i = 0; i < PARAM_COUNT; i++) {
    params->value[i] = SPECS[i].built_in;
  }
}

int params_index(uint16_t id) {
  for (int i = 0; i < PARAM_COUNT; i++) {
    if (SPECS[i].id == id) {
      return i;
    }
  }
  return -1;
}

static bool valid(int index, float value) {
  const spec_t *spec = &SPECS[index];
  bool is_limit = (index == PARAM_SPEED_RADPS_MAX) || (index == PARAM_ACCEL_RADPS2_MAX);
  float most = is_limit ? spec->built_in : spec->most;
  bool is_sign = spec->least == -1.0f;
  if (is_sign && (value != 1.0f)) {
    return value == -1.0f;
  }
  return (value >= spec->least) && (value <= most); /* false for NaN */
}

bool params_set(params_t *params, int index, float value) {
  if (!valid(index, value)) {
    return false;
  }
  params->value[index] = value;
  return true;
}

uint32_t params_crc(const params_t *params) {
  uint32_t crc = 0;
  for (int i = 0; i < PARAM_COUNT; i++) {
    uint8_t row[6];
    put_u16(row, SPECS[i].id);
    put_f32(&row[2], params->value[i]);
    crc = wire_crc32(crc, row, sizeof row);
  }
  return crc;
}

/* Store. A record: magic, sequence, boots, built-in limits' CRC, values, CRC-32. A set that was stored for another robot
 * is no valid set. Records fill a page from its start; then the other page is erased and takes the next. */
#define STORE_MAGIC 0x31504244u
#define HEAD_BYTES 16u
#define RECORD_BYTES (HEAD_BYTES + (4u * (unsigned)PARAM_COUNT) + 4u)
#define SLOTS (HAL_FLASH_PAGE_BYTES / RECORD_BYTES)

static void encode(uint8_t *record, uint32_t sequence, uint32_t boots, const params_t *params) {
  put_u32(record, STORE_MAGIC);
  put_u32(&record[4], sequence);
  put_u32(&record[8], boots);
  put_u32(&record[12], ROBOT_LIMITS_CRC);
  for (unsigned i = 0; i < (unsigned)PARAM_COUNT; i++) {
    put_f32(&record[HEAD_BYTES + (4u * i)], params->value[i]);
  }
  put_u32(&record[RECORD_BYTES - 4u], wire_crc32(0, record, RECORD_BYTES - 4u));
}

static bool is_record(const uint8_t *record) {
  return (get_u32(record) == STORE_MAGIC) && (get_u32(&record[12]) == ROBOT_LIMITS_CRC) &&
         (wire_crc32(0, record, RECORD_BYTES - 4u) == get_u32(&record[RECORD_BYTES - 4u]));
}

static bool is_blank(const uint8_t *record) {
  uint8_t all = 0xFF;
  for (unsigned i = 0; i < RECORD_BYTES; i++) {
    all &= record[i];
  }
  return all == 0xFFu;
}

store_result_t store_load(store_t *store, params_t *params) {
  uint8_t record[RECORD_BYTES];
  bool used = false;
  (void)memset(store, 0, sizeof *store);
  for (uint8_t page = 0; page < 2u; page++) {
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
      hal_flash_read(page, slot * RECORD_BYTES, record, RECORD_BYTES);
      used = used || !is_blank(record);
      if (is_record(record) && (get_u32(&record[4]) > store->sequence)) {
        store->sequence = get_u32(&record[4]);
        store->boots = get_u32(&record[8]);
        store->page = page;
        store->next_slot = slot + 1u;
        for (unsigned i = 0; i < (unsigned)PARAM_COUNT; i++) {
          params->value[i] = get_f32(&record[HEAD_BYTES + (4u * i)]);
        }
      }
    }
  }
  if (store->sequence > 0u) {
    return STORE_FOUND;
  }
  store->next_slot = SLOTS; /* nothing to keep: begin with an erased page */
  return used ? STORE_DAMAGED : STORE_BLANK;
}

/* Writes to the first blank slot of a page from `slot` on, and reads it back. Torn slots are stepped over. */
static bool append(store_t *store, uint8_t page, uint32_t slot, const uint8_t *record) {
  uint8_t read[RECORD_BYTES];
  for (; slot < SLOTS; slot++) {
    hal_flash_read(page, slot * RECORD_BYTES, read, RECORD_BYTES);
    if (is_blank(read) && hal_flash_write(page, slot * RECORD_BYTES, record, RECORD_BYTES)) {
      hal_flash_read(page, slot * RECORD_BYTES, read, RECORD_BYTES);
      if (memcmp(read, record, RECORD_BYTES) == 0) {
        store->page = page;
        store->next_slot = slot + 1u;
        return true;
      }
    }
  }
  return false;
}

bool store_save(store_t *store, const params_t *params) {
  uint8_t record[RECORD_BYTES];
  uint8_t other = (uint8_t)(1u - store->page);
  encode(record, store->sequence + 1u, store->boots, params);
  if (!append(store, store->page, store->next_slot, record)) {
    if (!hal_flash_erase(other) || !append(store, other, 0, record)) {
      return false;
    }
  }
  store->sequence++;
  return true;
}
