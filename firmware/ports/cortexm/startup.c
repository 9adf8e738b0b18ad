/* Vector table and the way to main. */
#include "cortexm.h"

extern uint32_t _stack_top, _data_load, _data_start, _data_end, _bss_start, _bss_end;
int main(void);
void reset_handler(void);
void fault_entry(void);
void systick_entry(void);
void irq_entry(void);
void crash_fault(const uint32_t *frame);
void crash_systick(const uint32_t *frame);

void reset_handler(void) {
  const uint32_t *from = &_data_load;
  for (uint32_t *to = &_data_start; to < &_data_end; to++) {
    *to = *from;
    from++;
  }
  for (uint32_t *to = &_bss_start; to < &_bss_end; to++) {
    *to = 0;
  }
  REG(0xE000ED88u) |= 0xFu << 20; /* CPACR: the FPU */
  REG(0xE000ED24u) |= 0x7u << 16; /* SHCSR: usage, bus and memory faults by themselves */
  __asm volatile("dsb\n isb");
  (void)main();
  cortexm_reset();
}

__attribute__((naked)) void fault_entry(void) { __asm volatile("mrs r0, msp\n b crash_fault"); }
__attribute__((naked)) void systick_entry(void) { __asm volatile("mrs r0, msp\n b crash_systick"); }

void irq_entry(void) {
  uint32_t ipsr;
  __asm volatile("mrs %0, ipsr" : "=r"(ipsr));
  port_irq((ipsr & 0x1FFu) - 16u);
}

__attribute__((section(".vectors"), used)) void (*const VECTORS[16 + 96])(void) = {
    [0] = (void (*)(void))(uintptr_t)&_stack_top,
    [1] = reset_handler,
    [2] = fault_entry, /* NMI: a hardware watchdog's warning */
    [3] = fault_entry,
    [4] = fault_entry,
    [5] = fault_entry,
    [6] = fault_entry,
    [11] = fault_entry,
    [12] = fault_entry,
    [14] = fault_entry,
    [15] = systick_entry,
    [16 ... 111] = irq_entry,
};
