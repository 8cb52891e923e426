// Starts `constraintc lsp` and leaves everything else to it.
const { window, workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function activate() {
  const command = workspace.getConfiguration("constraintc").get("path");
  const server = { command, args: ["lsp"] };
  const options = { documentSelector: [{ language: "policy" }] };
  client = new LanguageClient("constraintc", "constraintc", server, options);
  try {
    await client.start();
  } catch (error) {
    window.showErrorMessage(
      `\`${command} lsp\` did not start: install it with pip install 'constraintlang[lsp]', ` +
        `or name the command in the setting constraintc.path. (${error.message})`,
    );
  }
}

async function deactivate() {
  await client?.stop();
}

module.exports = { activate, deactivate };
