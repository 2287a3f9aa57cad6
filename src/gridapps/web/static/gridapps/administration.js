// Makes the list that scrolls sideways on small screens reachable by keyboard.
"use strict";

const results = document.querySelector("#changelist .results");
if (results) {
  results.tabIndex = 0;
  results.setAttribute("role", "group");
  results.setAttribute("aria-label", "Rows");
}
