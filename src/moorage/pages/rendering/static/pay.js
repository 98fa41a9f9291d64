// Pays with the wallet in this browser (EIP-6963, EIP-1193): it signs an authorization, or sends the
// transfer; the page's forms then tell the gateway. Nothing is ever sent twice by itself.

const WORDS = {
  4001: "You refused it in your wallet. Nothing was paid.",
  4100: "Your wallet does not allow this page that. Nothing was paid.",
  4200: "Your wallet can't do that. Use one of the other ways. Nothing was paid.",
  4900: "Your wallet is not connected to any chain. Nothing was paid.",
  4902: "Your wallet does not know this chain: add it there first. Nothing was paid.",
};

class Payment {
  constructor(root) {
    this.root = root;
    this.state = root.querySelector("[data-pay-state]");
    this.list = root.querySelector("[data-pay-wallets]");
    this.seen = new Set();
    addEventListener("eip6963:announceProvider", (event) => this.found(event.detail));
    dispatchEvent(new Event("eip6963:requestProvider"));
    setTimeout(() => {
      if (!this.seen.size) this.say("There is no wallet in this browser. Use one of the other ways.");
    }, 1000);
  }

  found({ info, provider }) {
    if (this.seen.has(info.uuid)) return;
    this.seen.add(info.uuid);
    this.say("Choose your wallet.");
    if (this.root.dataset.typed) {
      this.button(`Sign the payment with ${info.name}, without gas`, "main", () => this.sign(provider));
    }
    this.button(`Send the payment with ${info.name}`, "", () => this.send(provider));
  }

  button(label, tone, act) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    if (tone) button.className = tone;
    button.addEventListener("click", () => this.once(act));
    this.list.append(button);
  }

  async once(act) {
    const buttons = [...this.list.querySelectorAll("button")];
    for (const each of buttons) each.disabled = true;
    this.say("Look at your wallet: it asks you.");
    try {
      await act();
    } catch (error) {
      this.say(WORDS[error?.code] ?? error?.message ?? "Your wallet could not do that.");
      if (!error?.mayHavePaid) for (const each of buttons) each.disabled = false;
    }
  }

  async account(provider) {
    const accounts = await provider.request({ method: "eth_requestAccounts" });
    const wanted = this.root.dataset.wallet.toLowerCase();
    const account = accounts.find((each) => each.toLowerCase() === wanted);
    if (!account) throw new Error("Another account is chosen in your wallet: choose the one of this page. Nothing was paid.");
    const chain = `0x${Number(this.root.dataset.chain).toString(16)}`;
    if (await provider.request({ method: "eth_chainId" }) !== chain) {
      await provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId: chain }] });
    }
    return account;
  }

  async sign(provider) {
    const account = await this.account(provider);
    const typed = JSON.parse(this.root.dataset.typed);
    if (Date.now() / 1000 > Number(typed.message.validBefore) - 60) {
      throw new Error("This page is too old: reload it. Nothing was paid.");
    }
    const signature = await provider.request({
      method: "eth_signTypedData_v4", params: [account, this.root.dataset.typed],
    });
    this.submit("signed-form", { signature, message: JSON.stringify(typed.message) });
  }

  async send(provider) {
    const from = await this.account(provider);
    const transaction = { from, ...JSON.parse(this.root.dataset.transaction) };
    let hash;
    try {
      hash = await provider.request({ method: "eth_sendTransaction", params: [transaction] });
    } catch (error) {
      if (error?.code in WORDS) throw error;
      const unknown = new Error("Your wallet did not say whether it paid. Do not pay again: look there, this page waits for the payment.");
      unknown.mayHavePaid = true;
      throw unknown;
    }
    this.submit("sent-form", { transaction: hash });
  }

  submit(id, fields) {
    this.say("Paid. The gateway looks at it…");
    const form = document.getElementById(id);
    for (const [name, value] of Object.entries(fields)) form.elements[name].value = value;
    form.submit();
  }

  say(words) {
    this.state.textContent = words;
  }
}

for (const root of document.querySelectorAll("[data-pay]")) new Payment(root);
