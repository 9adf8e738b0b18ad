/* What survives a reset: memory that the start-up code does not touch. */
#include <string.h>

#include "cortexm.h"

#define MAGIC 0xC0FFEE42u
#define AIRCR REG(0xE000ED0Cu)
#define CFSR REG(0xE000ED28u)
#define MMFAR REG(0xE000ED34u)
#define BFAR REG(0xE000ED38u)

typedef struct {
  uint32_t magic;
  uint8_t cause; /* of the reset that is coming */
  base_crash_t crash;
  uint64_t note;
  uint32_t crc; /* over all above */
} survivor_t;

static survivor_t survivor __attribute__((section(".noinit")));
static volatile uint32_t unfed_ms;
static uint64_t context_us;
static uint32_t context_boots;
extern const uint8_t _build_id[];

static uint32_t crc_of(void) { return wire_crc32(0, (const uint8_t *)&survivor, offsetof(survivor_t, crc)); }

static void seal(void) { survivor.crc = crc_of(); }

uint8_t crash_reset_cause(void) {
  uint8_t cause = survivor.cause;
  if ((survivor.magic != MAGIC) || (survivor.crc != crc_of())) {
    memset(&survivor, 0, sizeof survivor);
    survivor.magic = MAGIC;
    cause = RESET_POWER_ON;
  }
  survivor.cause = RESET_UNKNOWN;
  seal();
  return cause;
}

void crash_record(base_crash_t *crash) { *crash = survivor.crash; }

void crash_leave_note(uint64_t note) {
  survivor.note = note;
  survivor.cause = RESET_SOFTWARE;
  seal();
}

uint64_t crash_take_note(void) {
  uint64_t note = survivor.note;
  survivor.note = 0;
  seal();
  return note;
}

void crash_context(uint64_t now_us, uint32_t boots) {
  context_us = now_us;
  context_boots = boots;
}

_Noreturn void cortexm_reset(void) {
  __asm volatile("dsb");
  AIRCR = 0x05FA0004u;
  for (;;) {
  }
}

/* frame: r0 r1 r2 r3 r12 lr pc psr, as the processor stacked them. */
static void write_down(const uint32_t *frame, uint8_t cause) {
  uint32_t cfsr = CFSR;
  port_motors_off();
  survivor.crash = (base_crash_t){.t_us = context_us, .boots = context_boots, .pc = frame[6], .lr = frame[5], .cfsr = cfsr,
                                  .reset_cause = cause};
  if ((cfsr & 0x8000u) != 0u) {
    survivor.crash.fault_address = BFAR;
  } else if ((cfsr & 0x80u) != 0u) {
    survivor.crash.fault_address = MMFAR;
  } else {
    survivor.crash.fault_address = 0;
  }
  survivor.cause = cause;
  seal();
  cortexm_reset();
}

void crash_fault(const uint32_t *frame);
void crash_systick(const uint32_t *frame);

void crash_fault(const uint32_t *frame) {
  uint32_t exception;
  __asm volatile("mrs %0, ipsr" : "=r"(exception));
  write_down(frame, ((exception & 0x1FFu) == 2u) ? RESET_WATCHDOG : RESET_CRASH); /* 2: NMI, the watchdog's warning */
}

void crash_systick(const uint32_t *frame) {
  unfed_ms++;
  if (unfed_ms > SOFT_WATCHDOG_MS) {
    write_down(frame, RESET_WATCHDOG);
  }
}

void soft_watchdog_feed(void) { unfed_ms = 0; }

void cortexm_systick(uint32_t core_hz) {
  REG(0xE000E014u) = (core_hz / 1000u) - 1u;
  REG(0xE000E018u) = 0;
  REG(0xE000E010u) = 7;
}

void cortexm_irq_enable(uint32_t number, uint8_t priority) {
  ((volatile uint8_t *)0xE000E400u)[number] = priority;
  REG(0xE000E100u + (4u * (number / 32u))) = 1u << (number % 32u);
}

void cortexm_wait(bool (*has_work)(void)) {
  __asm volatile("cpsid i" ::: "memory");
  if (!has_work()) {
    __asm volatile("dsb\n wfi"); /* also wakes for an interrupt that is masked */
  }
  __asm volatile("cpsie i" ::: "memory");
}

void build_identity(base_boot_t *boot) {
  for (unsigned i = 0; i < 4u; i++) {
    boot->git[i] = (uint8_t)(GIT_HASH >> (24u - (8u * i)));
  }
  memcpy(boot->build_id, &_build_id[16], sizeof boot->build_id); /* after the note's header and "GNU" */
  boot->dirty = GIT_DIRTY;
}
