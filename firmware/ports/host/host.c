/* The core as a shared library: flash in memory, and faults for it that tests order. One base at a time. */
#include <string.h>

#include "base.h"
#include "hal.h"

static uint8_t flash[2][HAL_FLASH_PAGE_BYTES];
static int32_t flash_budget = -1; /* bytes that may still be erased or written before power fails; -1: no end */

base_t host_base;

void hal_flash_read(uint8_t page, uint32_t offset, uint8_t *data, size_t length) {
  memcpy(data, &flash[page][offset], length);
}

static bool spend(void) {
  if (flash_budget == 0) {
    return false;
  }
  flash_budget -= (flash_budget > 0) ? 1 : 0;
  return true;
}

bool hal_flash_erase(uint8_t page) {
  for (uint32_t i = 0; i < HAL_FLASH_PAGE_BYTES; i++) {
    if (!spend()) {
      return false;
    }
    flash[page][i] = 0xFF;
  }
  return true;
}

bool hal_flash_write(uint8_t page, uint32_t offset, const uint8_t *data, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (!spend()) {
      return false;
    }
    flash[page][offset + i] &= data[i]; /* as flash does: bits only fall */
  }
  return true;
}

void host_flash_erase_all(void) { memset(flash, 0xFF, sizeof flash); }
void host_flash_budget(int32_t bytes) { flash_budget = bytes; }
uint8_t *host_flash(void) { return &flash[0][0]; }
base_t *host_state(void) { return &host_base; }
uint8_t host_machine_state(void) { return host_base.machine.state; }

void host_boot(uint8_t reset_cause, const base_inputs_t *inputs, uint64_t now_us) {
  base_boot_t boot = {.board = BOARD_HOST, .reset_cause = reset_cause};
  if (reset_cause >= RESET_WATCHDOG) {
    boot.crash = (base_crash_t){.t_us = 1, .boots = 2, .pc = 3, .lr = 4, .cfsr = 5, .fault_address = 6, .reset_cause = reset_cause};
  }
  base_init(&host_base, &boot, inputs, now_us);
}

void host_receive(const uint8_t *data, size_t length, uint64_t now_us) {
  base_receive(&host_base, data, length, now_us);
}

void host_tick(const base_inputs_t *inputs, uint64_t now_us, base_outputs_t *outputs) {
  base_tick(&host_base, inputs, now_us, outputs);
}

size_t host_transmit(uint8_t *out, size_t most) { return base_transmit(&host_base, out, most); }
void host_corrupt_state(uint8_t state) { host_base.machine.state = state; }
const wire_counters_t *host_counters(void) { return &host_base.receiver.counters; }
