/* What the Cortex-M ports share: interrupts, SysTick, crash record, software watchdog. */
#ifndef CORTEXM_H
#define CORTEXM_H

#include <stdbool.h>
#include <stdint.h>

#include "base.h"

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define SOFT_WATCHDOG_MS 300u /* SysTick interrupts without a feed */

/* Each interrupt of the board comes here with its number. */
void port_irq(uint32_t number);
/* The motors' enable line, from any context. */
void port_motors_off(void);

void cortexm_irq_enable(uint32_t number, uint8_t priority);
/* SysTick each millisecond: it wakes hal_wait and is the software watchdog's clock. */
void cortexm_systick(uint32_t core_hz);
void cortexm_wait(bool (*has_work)(void));
_Noreturn void cortexm_reset(void);

/* The record of the last crash since power-on (reset_cause 0: none). */
void crash_record(base_crash_t *crash);
/* Why the boot before this ended, told once: RESET_CRASH or RESET_WATCHDOG with a record, RESET_SOFTWARE, RESET_POWER_ON
 * where memory has lost its contents, or RESET_UNKNOWN: ask the hardware. */
uint8_t crash_reset_cause(void);
void crash_context(uint64_t now_us, uint32_t boots);
void soft_watchdog_feed(void);
/* A number that the boot after a reset reads once; 0: none. Test builds. */
void crash_leave_note(uint64_t note);
uint64_t crash_take_note(void);
/* First 8 bytes of the image's build id, and the commit. */
void build_identity(base_boot_t *boot);

#endif
