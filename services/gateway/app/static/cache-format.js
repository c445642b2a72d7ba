// Writes numbers of the cache page for people.

export const percent = (share) => {
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value >= 10 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} %`;
};

export const counted = (number) => Math.round(number).toLocaleString("en");

// 1,234 stays as it is; 1,234,567 becomes 1.2 M.
export function short(number) {
  for (const [size, letter] of [[1e9, " G"], [1e6, " M"], [1e4, " k"]]) {
    if (number >= size) {
      const value = number / (size === 1e4 ? 1e3 : size);
      return `${value >= 100 ? Math.round(value) : value.toFixed(1).replace(/\.0$/, "")}${letter}`;
    }
  }
  return counted(number);
}

// As many digits as a small amount needs.
export function money(amount) {
  if (!amount) return "$0";
  if (amount >= 100) return `$${counted(amount)}`;
  if (amount >= 0.1) return `$${amount.toFixed(2)}`;
  const digits = Math.min(8, 1 - Math.floor(Math.log10(amount)));
  return `$${amount.toFixed(digits).replace(/0+$/, "")}`;
}

const some = (value, unit) => {
  const text = value < 10 ? value.toFixed(1).replace(/\.0$/, "") : counted(value);
  return `${text} ${text === "1" ? unit : `${unit}s`}`;
};

export function duration(seconds) {
  if (seconds < 100) return some(seconds, "second");
  if (seconds < 100 * 60) return some(seconds / 60, "minute");
  if (seconds < 48 * 3600) return some(seconds / 3600, "hour");
  return some(seconds / 86400, "day");
}

// A short time, such as that of a lookup.
export function milliseconds(seconds) {
  const value = seconds * 1000;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value >= 10 ? Math.round(value) : Number(value.toPrecision(2))} ms`;
}

export const clock = (time) => new Date(time * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

export function ago(time) {
  const seconds = Math.max(0, Date.now() / 1000 - time);
  if (seconds < 60) return "just now";
  return `${duration(seconds).replace(/\.\d/, "")} ago`;
}
