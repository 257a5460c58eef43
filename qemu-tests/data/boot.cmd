# The boot script of the board: which slot, its kernel and initramfs, and off. Compiled by mkimage to /boot.scr on the
# partition `boot`. It must fit U-Boot's hush shell and the commands that Debian builds into its U-Boot for QEMU.
#
# The state partition holds two copies of 4 KiB (runtime format: updater/src/boot_state.rs). The good one with the higher
# sequence is believed. The other one is written first, and read back before the believed one is touched: so a power cut at
# any moment leaves one that is whole, also where an earlier one left a torn copy. Tries are counted only while BOOT_TRIAL
# names the slot: an ordinary boot writes nothing, and pulling the plug never burns a good slot.

setenv state_vars "BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_SEQ BOOT_TRIAL BOOT_A_MARK BOOT_B_MARK BOOT_BLOCKED"
setenv state_addr ${pxefile_addr_r}

setexpr check_addr ${state_addr} + 0x1000

# One copy at the sector ${start}: true if the disk gives back what was written.
setenv write_copy '${devtype} write ${state_addr} ${start} 8 && ${devtype} read ${check_addr} ${start} 8 && cmp.b ${state_addr} ${check_addr} 0x1000'
# Sets state_written when the new state is on the disk at least once; from then on it is the one believed.
setenv write_state 'setenv state_written; test -n "${BOOT_SEQ}" || setenv BOOT_SEQ 0; setexpr BOOT_SEQ ${BOOT_SEQ} + 1; env export -c -s 0x1000 ${state_addr} ${state_vars}; setenv start ${state_other}; if run write_copy; then setenv state_written 1; setenv start ${state_from}; setenv state_from ${state_other}; setenv state_other ${start}; run write_copy || echo "boot: one copy of the boot state cannot be written"; else echo "boot: the boot state cannot be written"; fi'

# Returns only if the slot cannot be booted: its files are not there, or the kernel is not one. booti is what a 64-bit
# U-Boot has, bootz what a 32-bit one has.
setenv boot_slot 'part number ${devtype} ${devnum} ${boot_part} part && load ${devtype} ${devnum}:${part} ${kernel_addr_r} /vmlinuz && load ${devtype} ${devnum}:${part} ${ramdisk_addr_r} /initrd && setenv initrd ${ramdisk_addr_r}:${filesize} && setenv bootargs "console=ttyAMA0 quiet panic=5 yado.slot=${slot} ${board_args}" && run start_kernel'
setenv start_kernel 'booti ${kernel_addr_r} ${initrd} ${fdt} || bootz ${kernel_addr_r} ${initrd} ${fdt}'
if test -n "${fdt_addr}"; then setenv fdt ${fdt_addr}; else setenv fdt ${fdtcontroladdr}; fi

# What this board adds to the kernel's command line and to its devicetree, if it has anything to add.
setenv board_args
setenv board_fdt
if test -e ${devtype} ${devnum}:1 /board.env; then
  load ${devtype} ${devnum}:1 ${state_addr} /board.env && env import -t ${state_addr} ${filesize} board_args board_fdt
fi
if test -n "${board_fdt}"; then
  fdt addr ${fdt} && fdt resize 0x1000 && run board_fdt
fi

part start ${devtype} ${devnum} state state_1
setexpr state_2 ${state_1} + 8
setenv state_from
for sector in ${state_1} ${state_2}; do
  setenv start ${sector}
  if ${devtype} read ${state_addr} ${start} 8 && env import -c ${state_addr} 0x1000 ${state_vars}; then
    test -n "${BOOT_SEQ}" || setenv BOOT_SEQ 0
    # A hexadecimal number, which test takes for one only with 0x.
    if test -z "${state_from}" || test 0x${BOOT_SEQ} -gt 0x${newest}; then
      setenv state_from ${start}
      setenv newest ${BOOT_SEQ}
    fi
  fi
done
if test -z "${state_from}"; then
  echo "boot: no boot state, trying A, then B"
  setenv BOOT_ORDER "A B"
  setenv BOOT_A_LEFT 3
  setenv BOOT_B_LEFT 3
  setenv BOOT_TRIAL
  setenv state_from ${state_1}
else
  ${devtype} read ${state_addr} ${state_from} 8 && env import -c ${state_addr} 0x1000 ${state_vars}
fi
if test "${state_from}" = "${state_1}"; then setenv state_other ${state_2}; else setenv state_other ${state_1}; fi

for slot_try in ${BOOT_ORDER}; do
  setenv slot ${slot_try}
  if test "${slot}" = A; then
    setenv left ${BOOT_A_LEFT}
    setenv boot_part boot-a
  else
    setenv left ${BOOT_B_LEFT}
    setenv boot_part boot-b
  fi
  if test ${left} -gt 0; then
    setenv may_boot 1
    if test "x${BOOT_TRIAL}" = "x${slot}"; then
      setexpr left ${left} - 1
      setenv BOOT_${slot}_LEFT ${left}
      run write_state
      setenv may_boot ${state_written}
    fi
    if test -n "${may_boot}"; then
      echo "boot: slot ${slot}, ${left} tries left, trial: ${BOOT_TRIAL}"
      run boot_slot
      echo "boot: slot ${slot} cannot be booted"
    else
      # It might hang each time, for ever.
      echo "boot: slot ${slot} is on trial, and its tries cannot be counted"
    fi
  fi
done

# Nothing in the order had a try left or could be booted. A board that gives up is of no use to anybody: begin again.
echo "boot: no slot left, refilling"
# (A loop's variable must not have the name of one that was set: hush would read that one.)
for refilled in ${BOOT_ORDER}; do
  setenv BOOT_${refilled}_LEFT 3
done
run write_state
if test -z "${state_written}"; then
  # What nobody counts is better than nothing.
  for uncounted in ${BOOT_ORDER}; do
    setenv slot ${uncounted}
    if test "${slot}" = A; then setenv boot_part boot-a; else setenv boot_part boot-b; fi
    run boot_slot
  done
fi
reset
