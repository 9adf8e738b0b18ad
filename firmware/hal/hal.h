/* What the firmware asks of a board. One implementation for each port, chosen at link time. All functions are called
 * from the main loop only (app.c), and by the core's parameter store (hal_flash_*). None blocks for more than a few
 * hundred microseconds, except hal_flash_erase. */
#ifndef HAL_H
#define HAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HAL_FLASH_PAGE_BYTES 16384u /* each of two pages that hold parameters */

/* Microseconds since boot, from a free-running timer, never backwards. Called at least once in 60 s. */
uint64_t hal_now_us(void);

/* Takes up to `most` bytes that came over the link; 0 where there are none. Bytes that found the receive buffer full,
 * and framing and noise errors, are in base_inputs_t.uart_errors. */
size_t hal_link_read(uint8_t *data, size_t most);

/* Gives one byte to the link; false while the sender is full (try again later). */
bool hal_link_write(uint8_t byte);

/* True once for each control period that is due, with its time in *now_us. The period is CONTROL_PERIOD_US; periods that
 * were missed are counted (base_inputs_t.missed_ticks), not made up for. */
bool hal_tick_due(uint64_t *now_us);

/* Feeds the watchdog: once in each control period, when it is over. It resets 0.3 s (hardware: 1 s) after the last. */
void hal_watchdog_feed(void);

/* Waits for an interrupt, at most a millisecond. */
void hal_wait(void);

/* Parameter flash. page 0 or 1; offset and length within it. Erased bytes read as 0xFF. Both return false where the
 * hardware reports an error; the caller reads back what it wrote. */
void hal_flash_read(uint8_t page, uint32_t offset, uint8_t *data, size_t length);
bool hal_flash_erase(uint8_t page);
bool hal_flash_write(uint8_t page, uint32_t offset, const uint8_t *data, size_t length);

#endif
