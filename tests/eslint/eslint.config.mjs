/* SPDX-License-Identifier: Apache-2.0 */

// What holds for the scripts of pages; those of the HTML report are one
// module.

import js from "@eslint/js";

// All that they use of the browser. A name that is not here is a mistake.
const BROWSER = [
  "addEventListener", "devicePixelRatio", "document", "getComputedStyle",
  "localStorage", "location", "matchMedia", "navigator",
  "requestAnimationFrame", "ResizeObserver", "URL",
];

export default [
  js.configs.recommended,
  {
    languageOptions: {
      ecmaVersion: 2023,
      sourceType: "module",
      globals: Object.fromEntries(BROWSER.map(name => [name, "readonly"])),
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-shadow": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
