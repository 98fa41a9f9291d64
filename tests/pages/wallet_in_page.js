// A wallet as a browser's extension puts it into a page (EIP-1193), found by EIP-6963. What needs
// its key goes to the test, by the binding `moorageTestWallet`.
(() => {
  const listeners = {};
  const provider = {
    async request({ method, params }) {
      const answer = await window.moorageTestWallet({ method, params: params ?? [] });
      if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
      return answer.result;
    },
    on(event, listener) { (listeners[event] ??= []).push(listener); return provider; },
    removeListener(event, listener) {
      listeners[event] = (listeners[event] ?? []).filter((each) => each !== listener);
      return provider;
    },
  };
  window.moorageTestWalletEmit = (event, value) => {
    for (const listener of listeners[event] ?? []) listener(value);
  };
  const info = {
    uuid: "350670db-19fa-4704-a166-e52e178b59d2",
    name: "Test Wallet",
    icon: "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>",
    rdns: "com.example.wallet",
  };
  const announce = () => window.dispatchEvent(
    new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider }) }),
  );
  window.addEventListener("eip6963:requestProvider", announce);
  announce();
})();
