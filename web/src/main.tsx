import { render } from "preact";
import { App } from "./components/App";
import { look } from "./connection";
import { watchFacets } from "./facets";
import { watchQuestion } from "./results";
import "./style.css";
import "./theme";

watchQuestion();
watchFacets();
void look();
const root = document.getElementById("app");
if (root) render(<App />, root);
