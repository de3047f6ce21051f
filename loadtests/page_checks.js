// Looked at from outside by Playwright; `({ … })` so that each can be asked for by its name.
({
  // Whatever can be used or read as a whole, and has no name for who does not see it.
  unnamed() {
    const kinds = "a, button, input, select, textarea, [role=meter], [role=progressbar], svg[role=img], dialog, table";
    return [...document.querySelectorAll(kinds)]
      .filter((one) => one.checkVisibility() && one.type !== "hidden")
      .filter((one) => {
        const by = one.getAttribute("aria-labelledby");
        const named = one.getAttribute("aria-label") || (by && document.getElementById(by)?.textContent)
          || one.labels?.[0]?.textContent || one.caption?.textContent
          || (["A", "BUTTON"].includes(one.tagName) && one.textContent);
        return !named || !named.trim();
      })
      .map((one) => one.outerHTML.slice(0, 120));
  },

  // Text with less than the contrast of WCAG 2, level AA: 4.5, or 3 where it is large.
  faint() {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgb = (color) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const light = (color) => color.slice(0, 3).reduce((sum, one, at) => sum + linear(one / 255) * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (one) => {
      for (let at = one; at; at = at.parentElement) {
        const color = rgb(getComputedStyle(at).backgroundColor);
        if (color[3] > 250) return color;
      }
      return [255, 255, 255, 255];
    };
    const found = new Set();
    for (const one of document.querySelectorAll("body *")) {
      const says = [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
      if (!says || !one.checkVisibility() || one.closest("svg, .sr, .skip, :disabled")) continue;
      const style = getComputedStyle(one), size = parseFloat(style.fontSize);
      const text = light(rgb(style.color)), ground = light(behind(one));
      const ratio = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
      const least = size >= 24 || (size >= 18.6 && style.fontWeight >= 700) ? 3 : 4.5;
      if (ratio < least) found.add(`${one.className || one.tagName}: ${one.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
    }
    return [...found];
  },

  // Pixels beyond the window.
  tooWide() {
    return document.documentElement.scrollWidth - window.innerWidth;
  },
})
