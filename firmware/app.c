/* The main loop of every board. */
#include "base.h"
#include "hal.h"
#include "hal_io.h"

static base_t base;
static base_inputs_t inputs;

static void send(void) {
  static uint8_t byte;
  static bool waiting;
  while (waiting || (base_transmit(&base, &byte, 1) == 1u)) {
    waiting = !hal_link_write(byte);
    if (waiting) {
      return; /* the sender is full; control goes on */
    }
  }
}

int main(void) {
  static base_boot_t boot;
  base_outputs_t outputs = {0};
  uint64_t now_us;
  hal_init(&boot);
  hal_inputs_read(&inputs);
  base_init(&base, &boot, &inputs, hal_now_us());
  for (;;) {
    uint8_t data[64];
    size_t length = hal_link_read(data, sizeof data);
    base_receive(&base, data, length, hal_now_us());
    if (hal_tick_due(&now_us)) {
      hal_crash_context(now_us, base.store.boots);
      hal_inputs_read(&inputs);
      base_tick(&base, &inputs, now_us, &outputs);
      hal_outputs_write(&outputs, base.machine.state);
      hal_watchdog_feed();
    } else if (length == 0u) {
      hal_wait();
    } else {
      /* more may have come */
    }
    send();
  }
}
