// The ReFL tab: asks `status` for what is new, and draws progress, curves, samples, the report and the past runs.
//
// Everything a person starts here goes through /imagereward/v1/train/…, so nothing waits in the WebUI's queue. While
// the tab is out of sight and nothing trains, nothing is asked.
(function() {
    "use strict";

    const PREFIX = "imagereward-refl";
    const ALIVE = ["starting", "running", "stopping", "comparing"];
    const QUICK = 1000; // milliseconds between two questions while something trains
    const SLOW = 5000;
    const PAUSE = 1200; // after the last change of a field, before the plan is made
    const MOST_POINTS = 400; // of a curve; more than a screen shows
    const SVG = "http://www.w3.org/2000/svg";

    const state = {chosen: "", run: null, starts: -1, position: 0, updates: [], checks: [], report: null, reported: "", folders: false, lacking: false, away: false, refreshLater: false, locked: false};

    function app() {
        return typeof gradioApp === "function" ? gradioApp() : document;
    }

    function part(name) {
        return app().querySelector(`#${PREFIX}-${name}`);
    }

    function page(name) {
        return part(name)?.querySelector(".imagereward-refl-page");
    }

    function element(kind, text, className) {
        const made = document.createElement(kind);
        if (text !== undefined) made.textContent = text;
        if (className) made.className = className;
        return made;
    }

    // ---- talking to the server

    function address(route, query) {
        const url = new URL(`imagereward/v1/train/${route}`, window.location.href);
        for (const [key, value] of Object.entries(query ?? {})) url.searchParams.set(key, value);
        return url;
    }

    async function ask(route, query, body) {
        const how = body === undefined ? {} : {
            method: "POST", body: JSON.stringify(body), headers: {"content-type": "application/json"},
        };
        const response = await fetch(address(route, query), how);
        state.locked = response.status === 401;
        const answer = await response.json();
        if (!response.ok) throw new Error(answer.detail ?? response.statusText);
        return answer;
    }

    async function act(route, body, tell = say, done = "") {
        try {
            await ask(route, {}, body);
            tell(done);
        } catch (error) {
            tell(error.message);
            if (state.locked) return unlock(error.message);
        }
        await look();
    }

    function say(text) {
        const line = page("run")?.querySelector(".imagereward-refl-said");
        if (line) line.textContent = text;
    }

    // What a button of the result did is told beside it: the run's line may be out of sight.
    function reply(text) {
        const line = page("result")?.querySelector(".imagereward-refl-reply");
        if (line) line.textContent = text;
    }

    // "It will begin" is true until it does.
    function settle(found) {
        app().querySelectorAll("[data-run][data-while]").forEach((line) => {
            const run = found.find((one) => one.name === line.dataset.run);
            line.hidden = !line.dataset.while.split(" ").includes(run?.state);
        });
    }

    // ---- what is shown, made once and then filled

    function build() {
        const run = page("run");
        if (!run || run.childElementCount) return Boolean(run);
        run.innerHTML = `
            <h3 class="imagereward-refl-title"></h3>
            <div class="imagereward-refl-bar"><div></div></div>
            <p class="imagereward-refl-numbers"></p>
            <p class="imagereward-refl-health"></p>
            <p class="imagereward-refl-said imagereward-warning"></p>
            <div class="imagereward-refl-buttons"></div>
            <div class="imagereward-refl-curves"></div>
            <div class="imagereward-refl-samples"></div>
            <details><summary>Log</summary><pre class="imagereward-refl-log"></pre></details>
            <section><h4>Runs</h4><table class="imagereward-refl-runs"><tbody></tbody></table></section>`;
        return true;
    }

    function fill(selector, text) {
        const found = page("run").querySelector(selector);
        if (found.textContent !== text) found.textContent = text;
    }

    function button(text, work, id) {
        const made = element("button", text, "imagereward-refl-button");
        made.type = "button";
        if (id) made.id = `${PREFIX}-${id}`;
        made.addEventListener("click", work);
        return made;
    }

    // Rewriting a button on every look would take it away under the mouse.
    function replaceOnChange(place, key, make) {
        if (place.dataset.shown === key) return;
        place.dataset.shown = key;
        place.replaceChildren(...make());
    }

    function sentence(text) {
        return `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
    }

    function duration(seconds) {
        if (seconds < 90) return `${Math.round(seconds)} s`;
        if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
        return `${(seconds / 3600).toFixed(1)} h`;
    }

    function numbers(run) {
        if (run.state === "waiting") return "Waits in the queue.";
        const parts = [`update ${run.step} of ${run.updates}`];
        const seconds = state.updates[state.updates.length - 1]?.seconds;
        if (run.state === "running" && run.seconds_left !== null) parts.push(`${duration(run.seconds_left)} left`);
        if (seconds) parts.push(seconds < 1 ? `${(1 / seconds).toFixed(1)} it/s` : `${seconds.toFixed(1)} s/it`);
        if (run.memory) parts.push(`${run.memory.toFixed(1)} GB at most`);
        return parts.join(", ");
    }

    function drawRun(answer) {
        const run = state.run;
        const where = page("run");
        fill(".imagereward-refl-title", run ? `${run.name}: ${run.state}` : "Nothing has been trained yet");
        where.dataset.state = run?.state ?? "";
        where.querySelector(".imagereward-refl-bar").hidden = !run;
        where.querySelector("section").hidden = !answer.runs.length;
        const share = run && run.updates ? Math.min(1, run.step / run.updates) : 0;
        where.querySelector(".imagereward-refl-bar div").style.width = `${100 * share}%`;
        fill(".imagereward-refl-numbers", run ? numbers(run) : "Choose the prompts and how strong, look at the plan, and press Start.");
        const ended = run && !ALIVE.includes(run.state) && run.reason ? `${sentence(run.reason)} ` : "";
        fill(".imagereward-refl-health", run ? `${ended}${answer.health ?? ""}` : "");
        const log = [answer.log ?? "", ...(answer.install ?? [])].filter(Boolean).join("\n");
        fill(".imagereward-refl-log", log);
        where.querySelector("details").hidden = !log;
        if (!run) showNothing();
        drawButtons(run);
        drawRuns(answer.runs);
        settle(answer.runs);
    }

    function showNothing() {
        for (const name of ["curves", "samples"]) {
            const place = page("run").querySelector(`.imagereward-refl-${name}`);
            place.replaceChildren();
            delete place.dataset.shown;
        }
        page("result").replaceChildren();
        part("comparison")?.classList.remove("imagereward-refl-ready");
        forget();
    }

    function drawButtons(run) {
        const place = page("run").querySelector(".imagereward-refl-buttons");
        replaceOnChange(place, run ? `${run.name}/${run.state}/${run.resumable}` : "", () => {
            if (!run) return [];
            const name = run.name;
            if (run.state === "stopping") {
                return [button("End it now", () => act("stop", {name, now: true}), "stop-now")];
            }
            if (run.state === "waiting") {
                return [
                    button("Start the queue", () => act("resume", {name}), "resume"),
                    button("Take out of the queue", () => act("stop", {name}), "stop"),
                ];
            }
            if (ALIVE.includes(run.state)) return [button("Stop and save", () => act("stop", {name}), "stop")];
            const made = run.state === "finished" ? [] : [button("Resume", () => act("resume", {name}), "resume")];
            return [...made, button("Delete the run", () => remove(name), "delete")];
        });
    }

    function remove(name) {
        if (!window.confirm(`Delete the run ${name} with its samples and states? Its LoRA in the LoRA folder stays.`)) return;
        state.chosen = "";
        act("delete", {name});
    }

    function drawRuns(found) {
        const place = page("run").querySelector(".imagereward-refl-runs tbody");
        const key = JSON.stringify([state.run?.name, found.map((run) => [run.name, run.state, run.step, run.updates])]);
        replaceOnChange(place, key, () => found.map((run) => {
            const row = element("tr", undefined, run.name === state.run?.name ? "imagereward-refl-selected" : "");
            row.dataset.run = run.name;
            row.append(element("td", run.name), element("td", run.state), element("td", `${run.step} of ${run.updates}`));
            row.addEventListener("click", () => choose(run.name));
            return row;
        }));
    }

    function choose(name) {
        state.chosen = name;
        forget();
        look();
    }

    function forget() {
        Object.assign(state, {starts: -1, position: 0, updates: [], checks: [], report: null, reported: ""});
    }

    // ---- curves

    function drawn(kind, attributes, parent, text) {
        const made = document.createElementNS(SVG, kind);
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        if (text !== undefined) made.textContent = text;
        parent.append(made);
        return made;
    }

    function thinned(points) {
        const step = Math.ceil(points.length / MOST_POINTS);
        return step <= 1 ? points : points.filter((_, index) => index % step === 0 || index === points.length - 1);
    }

    function series(events, name) {
        return thinned(events.filter((event) => Number.isFinite(event[name])).map((event) => ({
            x: event.step, y: event[name], spread: name === "reward" ? event.reward_spread ?? 0 : 0,
        })));
    }

    function number(value) {
        if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
        return value.toPrecision(3);
    }

    function curve(title, lines) {
        const [width, height, left, top, low] = [320, 130, 48, 18, 16];
        const picture = document.createElementNS(SVG, "svg");
        picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
        picture.setAttribute("class", "imagereward-refl-curve");
        const points = lines.flatMap((line) => line.points);
        const [xs, ys] = [points.map((p) => p.x), points.flatMap((p) => [p.y - p.spread, p.y + p.spread])];
        const [x0, x1] = [Math.min(...xs), Math.max(...xs, Math.min(...xs) + 1)];
        let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
        if (y1 === y0) [y0, y1] = [y0 - Math.abs(y0 || 1) * 0.1, y1 + Math.abs(y1 || 1) * 0.1];
        const x = (value) => left + (value - x0) / (x1 - x0) * (width - left - 6);
        const y = (value) => height - low - (value - y0) / (y1 - y0) * (height - low - top);
        drawn("text", {x: left, y: 12, class: "imagereward-refl-name"}, picture, title);
        for (const value of [y0, (y0 + y1) / 2, y1]) {
            drawn("line", {x1: left, x2: width - 6, y1: y(value), y2: y(value)}, picture);
            drawn("text", {x: left - 4, y: y(value) + 3, "text-anchor": "end"}, picture, number(value));
        }
        drawn("text", {x: left, y: height - 3}, picture, String(x0));
        drawn("text", {x: width - 6, y: height - 3, "text-anchor": "end"}, picture, String(xs.length ? Math.max(...xs) : x1));
        lines.forEach((line, index) => drawLine(line, index, x, y, picture));
        const names = drawn("text", {x: width - 6, y: 12, "text-anchor": "end"}, picture);
        lines.forEach((line, index) => drawn("tspan", {class: `imagereward-refl-line-${index}`}, names, ` ${line.name}`));
        return picture;
    }

    function drawLine(line, index, x, y, picture) {
        const path = (height) => line.points.map((p) => `${x(p.x).toFixed(1)},${y(height(p)).toFixed(1)}`);
        const className = `imagereward-refl-line-${index}`;
        if (line.points.some((p) => p.spread)) {
            const band = [...path((p) => p.y + p.spread), ...path((p) => p.y - p.spread).reverse()];
            drawn("polygon", {points: band.join(" "), class: `${className} imagereward-refl-band`}, picture);
        }
        drawn("polyline", {points: path((p) => p.y).join(" "), class: className}, picture);
        if (line.points.length < 30) {
            line.points.forEach((p) => drawn("circle", {cx: x(p.x), cy: y(p.y), r: 2, class: className}, picture));
        }
    }

    function drawCurves() {
        const charts = [
            ["Reward of each update, with its spread", [["", state.updates, "reward"]]],
            ["Checked at fixed prompts and seeds", [["reward", state.checks, "reward"], ["judge", state.checks, "judge"]]],
            ["Regularisers", [["distance", state.updates, "kl"], ["prior", state.updates, "prior"],
                ["denoising", state.updates, "denoising"]]],
            ["Pairs", [["loss", state.updates, "preference"], ["accuracy", state.updates, "accuracy"]]],
            ["How the images change", [["diversity", state.checks, "diversity"], ["saturation", state.checks, "saturation"],
                ["distance", state.checks, "distance"]]],
        ];
        const made = charts.map(([title, lines]) => [title, lines
            .map(([name, events, key]) => ({name, points: series(events, key)}))
            .filter((line) => line.points.length)]);
        page("run").querySelector(".imagereward-refl-curves").replaceChildren(
            ...made.filter(([, lines]) => lines.length).map(([title, lines]) => curve(title, lines)));
    }

    // ---- pictures and report

    function picture(file, title) {
        const image = element("img");
        image.src = address("picture", {run: state.run.name, file});
        image.title = image.alt = title;
        image.loading = "lazy";
        return image;
    }

    function drawSamples(samples) {
        const place = page("run").querySelector(".imagereward-refl-samples");
        replaceOnChange(place, JSON.stringify([state.run?.name, state.run?.starts, samples]), () => samples.map((pair) => {
            const figure = element("figure");
            const images = element("div", undefined, "imagereward-refl-pair");
            images.append(picture(pair.before, "before"));
            if (pair.after !== pair.before) images.append(picture(pair.after, `after update ${pair.step}`));
            figure.append(images, element("figcaption", pair.after === pair.before ? "before" : `before, after ${pair.step}`));
            return figure;
        }));
    }

    async function readReport(run) {
        const key = `${run.name}/${run.starts}/${run.compared}/${run.state}`;
        if (state.reported === key) return;
        state.reported = key;
        state.report = null;
        if (run.compared && run.state !== "comparing") {
            try {
                const report = await ask("report", {run: run.name});
                if (state.reported !== key) return; // another run was chosen meanwhile
                state.report = report;
            } catch (error) {
                say(error.message);
            }
        }
        drawResult(run);
    }

    function drawResult(run) {
        const place = page("result");
        place.replaceChildren();
        part("comparison")?.classList.toggle("imagereward-refl-ready", Boolean(run.lora));
        if (!run.lora) return;
        const weight = state.report?.recommended ?? 0.8;
        place.append(element("h3", `Result: ${run.lora}`));
        const report = state.report ? reportOf(state.report) : [];
        const buttons = element("div", undefined, "imagereward-refl-buttons");
        buttons.append(
            button(`Use in txt2img: <lora:${run.lora}:${weight}>`, () => use(run.lora, weight), "use"),
            button("Refresh the LoRA list", refreshLoras, "refresh-loras"));
        if (state.folders) buttons.append(button("Open the folder", () => act("folder", {name: run.name}, reply, "The folder is open, in a window of its own."), "folder"));
        place.append(...report.slice(0, 1), buttons, element("p", "", "imagereward-refl-reply"), ...report.slice(1));
    }

    function reportOf(report) {
        const table = element("table");
        const head = element("tr");
        ["", "scorer", "mean", "difference", "win rate"].forEach((text) => head.append(element("th", text)));
        table.append(head);
        for (const row of report.rows) {
            const line = element("tr");
            const cells = [row.label, row.scorer, row.mean.toFixed(3), interval(row.difference, 1, 3), interval(row.win_rate, 100, 0, " %")];
            cells.forEach((text) => line.append(element("td", text)));
            table.append(line);
        }
        const pictures = report.pictures.map((file) => picture(file, "contact sheet"));
        return [element("p", report.advice), table, ...pictures];
    }

    function interval(value, factor, digits, unit = "") {
        if (!value) return "–";
        const shown = (number) => (factor * number).toFixed(digits);
        const bounds = value.low === null ? "" : ` (${shown(value.low)} to ${shown(value.high)})`;
        return `${shown(value.value)}${unit}${bounds}`;
    }

    function use(lora, weight) {
        const box = app().querySelector("#txt2img_prompt textarea");
        if (!box) return;
        const others = box.value.replace(new RegExp(`\\s*<lora:${lora.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}:[^>]*>`, "g"), "");
        box.value = `${others} <lora:${lora}:${weight}>`.trim();
        box.dispatchEvent(new Event("input", {bubbles: true}));
        const tabs = Array.from(app().querySelectorAll("#tabs button"));
        tabs.find((tab) => tab.textContent.trim() === "txt2img")?.click();
    }

    function refreshLoras() {
        const known = ["#txt2img_lora_extra_refresh", "#txt2img_extra_refresh"];
        const found = known.map((id) => app().querySelector(id)).find(Boolean);
        if (found && state.away) {
            state.refreshLater = true;
            reply("The LoRA list asks for the checkpoint, which a training has put away: it is read when that has ended.");
            return;
        }
        found?.click();
        reply(found ? "The LoRA list is read anew." : "This WebUI finds new LoRAs by itself.");
    }

    // ---- asking

    async function look() {
        if (!build()) return false;
        let answer;
        const asked = {run: state.chosen, starts: state.starts, position: state.position};
        try {
            answer = await ask("status", asked);
        } catch (error) {
            if (state.locked) unlock(error.message);
            else fill(".imagereward-refl-numbers", `The WebUI does not answer: ${error.message}`);
            return true;
        }
        if (asked.run !== state.chosen) return true; // another run was chosen meanwhile: its own answer comes
        const run = answer.run;
        const another = run && state.run && run.name !== state.run.name;
        state.run = run;
        state.folders = answer.folders;
        state.away = answer.away;
        showPackages(answer.missing);
        if (another && asked.starts >= 0) { // what was asked about belongs to the run shown before
            forget();
            return look();
        }
        if (run) take(answer, asked.position);
        drawRun(answer);
        if (run) {
            drawCurves();
            drawSamples(answer.samples);
            await readReport(run);
            hand(run.name);
        }
        if (state.refreshLater && !state.away) {
            state.refreshLater = false;
            refreshLoras();
        }
        // A run is finished some moments before its process has ended and the checkpoint may come back.
        return state.away || answer.runs.some((one) => ALIVE.includes(one.state) || one.state === "waiting");
    }

    // With --api-auth the browser itself asks for the user name and the password: again only when somebody wants it.
    function unlock(why) {
        fill(".imagereward-refl-numbers", `The WebUI does not let this page in: ${why}.`);
        page("run").querySelector(".imagereward-refl-numbers").append(" ", button("Log in", look, "log-in"));
    }

    function take(answer, asked) {
        if (!answer.fresh && asked !== state.position) return; // two looks at once: the other one has them
        if (answer.fresh) [state.updates, state.checks] = [[], []];
        for (const event of answer.events) (event.kind === "update" ? state.updates : state.checks).push(event);
        state.starts = answer.run.starts;
        state.position = answer.position;
    }

    // The page was made when the WebUI started: what it lacked then may have been installed since.
    function showPackages(missing) {
        state.lacking ||= missing.length > 0;
        part("packages")?.classList.toggle("imagereward-hidden", !state.lacking);
    }

    // The button that compares again is gradio's, because it needs the fields: tell it which run is meant.
    function hand(name) {
        const box = part("chosen")?.querySelector("textarea, input");
        if (box && box.value !== name) {
            box.value = name;
            box.dispatchEvent(new Event("input", {bubbles: true}));
        }
    }

    function visible() {
        return !document.hidden && page("run")?.offsetParent;
    }

    let busy = false;
    let planned = false;
    async function watch() {
        if (visible() && !planned) {
            planned = true;
            part("fields")?.click();
            waitForPlan();
            part("refresh")?.click(); // the page was made when the WebUI started
            changed();
        }
        if ((visible() || busy) && !state.locked) busy = await look();
        setTimeout(watch, busy ? QUICK : visible() ? SLOW : QUICK);
    }

    // ---- the plan follows the fields

    let timer = null;
    function changed() {
        clearTimeout(timer);
        timer = setTimeout(() => {
            timer = null;
            planned = Boolean(visible());
            if (!planned) return; // made when the tab is seen again
            waitForPlan();
            part("check")?.click();
            part("plan")?.click();
        }, PAUSE);
    }

    // The plan takes seconds, and the old one is not true meanwhile.
    function waitForPlan() {
        part("plan-text")?.classList.add("imagereward-refl-pending");
    }

    function showPlan() {
        if (timer === null) part("plan-text")?.classList.remove("imagereward-refl-pending");
    }

    function showProblems() {
        const holder = part("problems")?.querySelector("[data-problems]");
        app().querySelectorAll(".imagereward-refl-problem").forEach((old) => old.remove());
        if (!holder) return;
        for (const [name, text] of Object.entries(JSON.parse(holder.dataset.problems))) {
            if (name) part(name)?.append(element("div", text, "imagereward-refl-problem imagereward-warning"));
        }
    }

    function start() {
        const setup = part("setup");
        if (!setup) return;
        ["input", "change", "click"].forEach((kind) => setup.addEventListener(kind, (event) => {
            if (kind !== "click") waitForPlan(); // a click may be on anything
            changed();
        }));
        const plan = part("plan-text");
        if (plan) new MutationObserver(showPlan).observe(plan, {childList: true, subtree: true, characterData: true});
        const problems = part("problems");
        if (problems) new MutationObserver(showProblems).observe(problems, {childList: true, subtree: true});
        // A preset that was loaded changes fields without a word of theirs; packages that were installed, what can be planned.
        for (const message of [part("message"), part("packages-text")]) {
            if (message) new MutationObserver(changed).observe(message, {childList: true, subtree: true, characterData: true});
        }
        part("start")?.addEventListener("click", () => {
            state.chosen = "";
            busy = true;
        });
        part("compare-again")?.addEventListener("click", () => {
            busy = true;
        });
        watch();
    }

    if (typeof onUiLoaded === "function") {
        onUiLoaded(start);
    } else {
        window.addEventListener("load", start);
    }
})();
