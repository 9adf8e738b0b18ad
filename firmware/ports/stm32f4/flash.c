/* Parameters in sectors 1 and 2. An erase stops the processor for up to half a second: only IDLE stores, and the watchdogs wait longer. */
#include <string.h>

#include "bytes.h"
#include "f405.h"
#include "hal.h"

#define SR_ERRORS 0xF2u
#define SR_BUSY 0x10000u
#define CR_LOCK 0x80000000u
#define CR_PROGRAM 1u
#define CR_ERASE 2u
#define CR_BY_WORD 0x200u
#define CR_START 0x10000u

static uint32_t address(uint8_t page) { return 0x08004000u + (0x4000u * page); }

static bool finish(void) {
  bool done = wait_for(&FLASH(0x0C), SR_BUSY, 0);
  bool good = done && ((FLASH(0x0C) & SR_ERRORS) == 0u);
  FLASH(0x0C) = SR_ERRORS;
  FLASH(0x10) = CR_LOCK;
  return good;
}

static void unlock(void) {
  FLASH(0x04) = 0x45670123u;
  FLASH(0x04) = 0xCDEF89ABu;
  FLASH(0x0C) = SR_ERRORS;
}

void hal_flash_read(uint8_t page, uint32_t offset, uint8_t *data, size_t length) {
  memcpy(data, (const void *)(uintptr_t)(address(page) + offset), length);
}

bool hal_flash_erase(uint8_t page) {
  hal_watchdog_feed();
  unlock();
  FLASH(0x10) = CR_BY_WORD | CR_ERASE | ((1u + page) << 3);
  FLASH(0x10) |= CR_START;
  bool good = finish();
  hal_watchdog_feed();
  return good;
}

bool hal_flash_write(uint8_t page, uint32_t offset, const uint8_t *data, size_t length) {
  bool good = true;
  for (size_t i = 0; good && (i < length); i += 4u) { /* records are whole words */
    unlock();
    FLASH(0x10) = CR_BY_WORD | CR_PROGRAM;
    REG(address(page) + offset + i) = get_u32(&data[i]);
    good = finish();
  }
  return good;
}
