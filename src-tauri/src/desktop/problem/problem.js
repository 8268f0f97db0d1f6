// Says why nothing is served, and offers the ways out.
const { invoke } = window.__TAURI__.core;
const find = (id) => document.getElementById(id);

function show(problem) {
  if (problem === null) {
    location.replace('/index.html');
    return;
  }
  find('line').textContent = problem.line;
  find('means').textContent = problem.is_port
    ? 'Nothing was stopped or moved. Close the other program and retry, or let Samovar choose a free port until it quits.'
    : 'Mend this and retry.';
  find('other').hidden = !problem.is_port;
}

async function attempt(command) {
  const buttons = document.querySelectorAll('button');
  buttons.forEach((button) => (button.disabled = true));
  try {
    await invoke(command);
    show(await invoke('port_problem'));
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

find('retry').addEventListener('click', () => attempt('retry_port'));
find('other').addEventListener('click', () => attempt('other_port'));
find('quit').addEventListener('click', () => invoke('quit'));
invoke('port_problem').then(show);
