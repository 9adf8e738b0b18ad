/* STM32F405: link on USART1, PWM on TIM1, encoders on TIM3 and TIM4, time on TIM5, battery on ADC1, e-stop on EXTI15. */
#include "f405.h"
#include "hal.h"
#include "hal_io.h"

#define RING 1024u
#define IRQ_USART1 37u
#define IRQ_EXTI15_10 40u
#define PWM_STEPS 4200u /* 168 MHz / (2 * 4200) = 20 kHz, centre-aligned */
#define VREF_UV 3300000u

static uint8_t ring[RING];
static volatile uint32_t head, tail, uart_errors;
static volatile bool estop_seen;
static bool tx_waiting, emulated;
static uint32_t time_last, missed;
static uint64_t time_us, due_us, tick_begin_us;
static uint16_t loop_us, left_last, right_last;
static int32_t left_count, right_count;

void pin_mode(uint32_t port, uint32_t pin, uint32_t mode, uint32_t function, uint32_t pull) {
  GPIO(port, 0x00) = (GPIO(port, 0x00) & ~(3u << (2u * pin))) | (mode << (2u * pin));
  GPIO(port, 0x0C) = (GPIO(port, 0x0C) & ~(3u << (2u * pin))) | (pull << (2u * pin));
  uint32_t at = 0x20u + (4u * (pin / 8u));
  uint32_t shift = 4u * (pin % 8u);
  GPIO(port, at) = (GPIO(port, at) & ~(0xFu << shift)) | (function << shift);
}

bool wait_for(volatile uint32_t *reg, uint32_t mask, uint32_t wanted) {
  for (uint32_t i = 0; i < WAIT_MAX; i++) {
    if ((*reg & mask) == wanted) {
      return true;
    }
  }
  return false;
}

void port_motors_off(void) {
  GPIO(1, 0x18) = 1u << (PIN_ENABLE + 16u);
  TIM1(0x34) = 0;
  TIM1(0x40) = 0;
}

static bool estop_pressed(void) { return !emulated && ((GPIO(1, 0x10) & (1u << PIN_ESTOP)) != 0u); }

void port_irq(uint32_t number) {
  if (number == IRQ_EXTI15_10) {
    EXTI(0x14) = 1u << PIN_ESTOP;
    port_motors_off();
    estop_seen = true;
    return;
  }
  uint32_t status = USART1(0x00);
  uart_errors += ((status & 0xFu) != 0u) ? 1u : 0u;
  if ((status & 0x28u) != 0u) { /* a byte, or an overrun that reading clears */
    uint8_t byte = (uint8_t)USART1(0x04);
    if ((head - tail) < RING) {
      ring[head % RING] = byte;
      head++;
    } else {
      uart_errors++;
    }
  }
}

/* 168 MHz from the crystal, or from the internal oscillator where that does not start. Under QEMU there is no RCC. */
static void clock_init(void) {
  emulated = (RCC(0x00) & 2u) == 0u;
  RCC(0x30) |= 0x7u;                             /* ports A, B, C */
  RCC(0x40) |= (1u << 28) | (1u << 21) | 0xEu;   /* PWR, I2C1, TIM3, TIM4, TIM5 */
  RCC(0x44) |= (1u << 14) | (1u << 8) | (1u << 4) | 1u; /* SYSCFG, ADC1, USART1, TIM1 */
  if (emulated) {
    return;
  }
  RCC(0x00) |= 1u << 16;
  bool crystal = wait_for(&RCC(0x00), 1u << 17, 1u << 17);
  FLASH(0x00) = 0x705u; /* 5 wait states, caches, prefetch */
  RCC(0x04) = (crystal ? 8u : 16u) | (336u << 6) | (crystal ? (1u << 22) : 0u) | (7u << 24);
  RCC(0x08) = (5u << 10) | (4u << 13); /* APB1 42 MHz, APB2 84 MHz */
  RCC(0x00) |= 1u << 24;
  if (wait_for(&RCC(0x00), 1u << 25, 1u << 25)) {
    RCC(0x08) |= 2u;
    (void)wait_for(&RCC(0x08), 0xCu, 8u);
  }
}

static void motors_init(void) {
  for (uint32_t pin = PIN_LEFT_DIR; pin <= PIN_ENABLE; pin++) {
    pin_mode(1, pin, 1, 0, 0);
  }
  port_motors_off();
  pin_mode(1, PIN_ESTOP, 0, 0, 1);
  pin_mode(0, 8, 2, 1, 0);
  pin_mode(0, 11, 2, 1, 0);
  TIM1(0x2C) = PWM_STEPS;
  TIM1(0x18) = 0x68u;      /* channel 1: PWM mode 1, preloaded */
  TIM1(0x1C) = 0x6800u;    /* channel 4 */
  TIM1(0x20) = 0x1001u;
  TIM1(0x44) = 0x8000u;    /* main output */
  TIM1(0x00) = 0xA1u;      /* centre-aligned, preloaded, on */
  SYSCFG(0x14) = (SYSCFG(0x14) & ~0xF000u) | 0x1000u; /* EXTI15 is port B */
  EXTI(0x08) |= 1u << PIN_ESTOP;                      /* rising: the loop opens */
  EXTI(0x00) |= 1u << PIN_ESTOP;
  cortexm_irq_enable(IRQ_EXTI15_10, 0x00);
}

static void sensors_init(void) {
  pin_mode(0, 6, 2, 2, 1);
  pin_mode(0, 7, 2, 2, 1);
  pin_mode(1, 6, 2, 2, 1);
  pin_mode(1, 7, 2, 2, 1);
  volatile uint32_t *const encoders[] = {&TIM3(0), &TIM4(0)};
  for (unsigned i = 0; i < 2u; i++) {
    encoders[i][0x2C / 4] = 0xFFFFu;
    encoders[i][0x18 / 4] = 0x3131u; /* both inputs, filtered over 8 samples */
    encoders[i][0x08 / 4] = 3;       /* both edges of both */
    encoders[i][0x00 / 4] = 1;
  }
  pin_mode(2, 0, 3, 0, 0);
  ADC_CCR = 0x10000u;          /* 84 MHz / 4 */
  ADC1(0x0C) = 7;              /* channel 10: 480 cycles */
  ADC1(0x34) = 10;
  ADC1(0x08) = 3;              /* on, continuous */
  ADC1(0x08) |= 1u << 30;
}

static uint8_t reset_cause(void) {
  uint8_t told = crash_reset_cause();
  uint32_t flags = RCC(0x74);
  RCC(0x74) |= 1u << 24;
  if ((told == RESET_CRASH) || (told == RESET_WATCHDOG)) {
    return told;
  }
  if ((flags & (1u << 29)) != 0u) {
    return RESET_WATCHDOG;
  }
  if ((flags & (1u << 27)) != 0u) {
    return RESET_POWER_ON;
  }
  if ((flags & (1u << 25)) != 0u) {
    return RESET_BROWNOUT;
  }
  if ((flags & (1u << 28)) != 0u) {
    return RESET_SOFTWARE;
  }
  return ((flags & (1u << 26)) != 0u) ? RESET_PIN : told;
}

void hal_init(base_boot_t *boot) {
  clock_init();
  boot->board = BOARD_STM32F405;
  boot->reset_cause = reset_cause();
  crash_record(&boot->crash);
  build_identity(boot);
  TIM5(0x28) = 83; /* 84 MHz / 84 */
  TIM5(0x2C) = 0xFFFFFFFFu;
  TIM5(0x14) = 1;
  TIM5(0x00) = 1;
  motors_init();
  sensors_init();
  (void)imu_init();
  pin_mode(0, 9, 2, 7, 0);
  pin_mode(0, 10, 2, 7, 1);
  USART1(0x08) = 91; /* 84 MHz / 91 = 923077: 0.16 % fast */
  USART1(0x0C) = 0x202Cu;
  cortexm_irq_enable(IRQ_USART1, 0x80);
  due_us = hal_now_us() + CONTROL_PERIOD_US;
  cortexm_systick(CORE_HZ);
  IWDG(0x00) = 0x5555u;
  IWDG(0x04) = 3; /* 32 kHz / 32 */
  IWDG(0x08) = 1000;
  IWDG(0x00) = 0xCCCCu;
}

uint64_t hal_now_us(void) {
  uint32_t value = TIM5(0x24);
  time_us += value - time_last;
  time_last = value;
  return time_us;
}

size_t hal_link_read(uint8_t *data, size_t most) {
  size_t taken = 0;
  while ((taken < most) && (tail != head)) {
    data[taken] = ring[tail % RING];
    tail++;
    taken++;
  }
  return taken;
}

bool hal_link_write(uint8_t byte) {
  tx_waiting = (USART1(0x00) & 0x80u) == 0u;
  if (!tx_waiting) {
    USART1(0x04) = byte;
  }
  return !tx_waiting;
}

bool hal_tick_due(uint64_t *now_us) {
  uint64_t now = hal_now_us();
  if (now < due_us) {
    return false;
  }
  uint64_t skipped = (now - due_us) / CONTROL_PERIOD_US;
  missed += (uint32_t)skipped;
  due_us += (skipped + 1u) * CONTROL_PERIOD_US;
  tick_begin_us = now;
  *now_us = now;
  return true;
}

void hal_crash_context(uint64_t now_us, uint32_t boots) { crash_context(now_us, boots); }

void hal_watchdog_feed(void) {
  soft_watchdog_feed();
  IWDG(0x00) = 0xAAAAu;
}

static bool has_work(void) { return (head != tail) || tx_waiting; }
void hal_wait(void) { cortexm_wait(has_work); }

void hal_inputs_read(base_inputs_t *inputs) {
  uint16_t left = (uint16_t)TIM3(0x24);
  uint16_t right = (uint16_t)TIM4(0x24);
  left_count += (int16_t)(uint16_t)(left - left_last);
  right_count += (int16_t)(uint16_t)(right - right_last);
  left_last = left;
  right_last = right;
  inputs->left_count = left_count;
  inputs->right_count = right_count;
  inputs->imu_valid = imu_read(inputs);
  inputs->battery_adc_uv = (uint32_t)(((uint64_t)(ADC1(0x4C) & 0xFFFu) * VREF_UV) / 4095u);
  inputs->uart_errors = uart_errors;
  inputs->missed_ticks = missed;
  inputs->loop_us = loop_us;
  inputs->estop_pressed = estop_pressed() || estop_seen;
  estop_seen = false;
  inputs->timing_trusted = true;
}

void hal_outputs_write(const base_outputs_t *outputs, uint8_t state) {
  const int32_t duty[2] = {outputs->left_duty_e4, outputs->right_duty_e4};
  (void)state; /* it goes to the plant port of the emulated board only */
  for (unsigned i = 0; i < 2u; i++) {
    uint32_t pin = (i == 0u) ? PIN_LEFT_DIR : PIN_RIGHT_DIR;
    uint32_t size = (uint32_t)((duty[i] < 0) ? -duty[i] : duty[i]);
    GPIO(1, 0x18) = (duty[i] < 0) ? (1u << (pin + 16u)) : (1u << pin);
    TIM1((i == 0u) ? 0x34u : 0x40u) = (size * PWM_STEPS) / 10000u;
  }
  __asm volatile("cpsid i" ::: "memory"); /* no e-stop between the question and the line */
  if (outputs->enable && !estop_pressed() && !estop_seen) {
    GPIO(1, 0x18) = 1u << PIN_ENABLE;
  } else {
    port_motors_off();
  }
  __asm volatile("cpsie i" ::: "memory");
  uint64_t spent = hal_now_us() - tick_begin_us;
  loop_us = (spent < 65535u) ? (uint16_t)spent : 65535u;
}
